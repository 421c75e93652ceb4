// The sides of a grid: what varies along each, its values as text and as chips.

const GRID_SIDES = [
  ["across", "Across"],
  ["down", "Down"],
  ["pages", "Pages, a sheet for each"],
];
const GRID_WORDS = "prompt words";
const GRID_WEIGHT = "lora weight";
const GRID_REPLACES = { [GRID_WORDS]: "replacing", [GRID_WEIGHT]: "of LoRA" }; // labels of what a side replaces

/** The editors of the three sides; `changed` is called when something of them is. */
function GridSides(app, changed) {
  let fields = new Map();
  const sides = GRID_SIDES.map(([key, title], place) => GridSide(app, key, title, () => fields, changed, place));
  const element = h("div", { class: "cogvx-grid-sides" }, sides.map((side) => side.element));

  for (const side of sides) side.offer();
  return {
    element,
    /** Offer what can vary. */
    offer(rows) {
      fields = new Map(rows.map((row) => [row.name, row]));
      for (const side of sides) side.offer();
    },
    get: () => sides.map((side) => side.get()),
    set: (values) => sides.forEach((side, place) => side.set(values[place] ?? { name: "", text: "", replaces: "" })),
    /** Show the values as Python read them; none where it couldn't. */
    show: (described) => sides.forEach((side, place) => side.show(described?.[place])),
  };
}

function GridSide(app, key, title, fields, changed, place) {
  const id = `${app.id}-grid-${key}`;
  const name = h("select", { id: `${id}-name`, on: { change: choose } });
  const values = h("textarea", { id: `${id}-values`, rows: 1, class: "cogvx-grid-values", "aria-describedby": `${id}-help`, spellcheck: "false", on: { input: changed } });
  const replaces = h("input", { id: `${id}-words`, type: "text", autocomplete: "off", on: { input: changed } });
  const replacing = h("label", { for: `${id}-words` });
  const words = h("div", { class: "cogvx-grid-field cogvx-grid-words" }, replacing, replaces);
  const help = h("small", { id: `${id}-help` });
  const chips = h("ul", { class: "cogvx-grid-chips", "aria-label": `Values ${title.toLowerCase()}` });
  const more = h("div", { class: "cogvx-grid-more" });
  const rest = h("div", { class: "cogvx-grid-rest" },
    h("div", { class: "cogvx-grid-field cogvx-grid-list" }, h("label", { for: `${id}-values`, text: "values" }), values), words);
  const element = h("fieldset", { class: "cogvx-grid-side" }, h("legend", { text: title }),
    h("div", { class: "cogvx-grid-field" }, h("label", { for: `${id}-name`, text: "vary" }), name), rest, h("div", { class: "cogvx-grid-shown" }, chips, more, help));

  function offer() {
    const chosen = name.value;
    const rows = [{ name: "", title: place ? "nothing" : "choose…" }, ...fields().values()];
    name.replaceChildren(...rows.map((row) => h("option", { value: row.name, text: row.title })));
    name.value = fields().has(chosen) ? chosen : "";
    arrange();
  }

  function choose() {
    values.value = "";
    replaces.value = "";
    arrange();
    changed();
  }

  /** What the chosen field needs. */
  function arrange() {
    const row = fields().get(name.value);
    rest.classList.toggle("cogvx-grid-off", !row);
    values.disabled = replaces.disabled = !row;
    words.hidden = !(name.value in GRID_REPLACES);
    setText(replacing, GRID_REPLACES[name.value] ?? "");
    values.rows = name.value === "prompt" ? 4 : 1;
    values.placeholder = row?.example ?? "";
    replaces.placeholder = name.value === GRID_WEIGHT ? "the first one" : "the first value";
    setText(help, row ? `${row.help}; such as ${row.example}` : "");
    const choices = row?.choices ?? [];
    more.replaceChildren(...choices.map((choice) => button(choice, { icon: "add", class: "cogvx-grid-choice", title: `add ${choice}`, on: () => (name.value === GRID_WEIGHT ? chooseLora(choice) : add(choice)) })));
    if (!row) show(null);
  }

  function chooseLora(choice) {
    replaces.value = choice;
    changed();
  }

  function add(choice) {
    const quoted = /[,"，]/.test(choice) ? `"${choice.replaceAll('"', '""')}"` : choice;
    values.value = [values.value.trim().replace(/,$/, ""), quoted].filter(Boolean).join(", ");
    changed();
  }

  function show(side) {
    const listed = side?.name === name.value && side?.name ? side.labels.map((label, number) => ({ label, number })) : [];
    const without = (number) => {
      values.value = side.written.filter((_, other) => other !== number).join(side.name === "prompt" ? "\n" : ", ");
      if (side.name in GRID_REPLACES) replaces.value = side.replaces;
      changed();
      values.focus();
    };
    chips.replaceChildren(...listed.map(({ label, number }) =>
      h("li", { class: "cogvx-grid-chip" }, h("span", { text: label, title: label }), listed.length > 1 ? button("", { icon: "close", title: `without ${label}`, on: () => without(number) }) : null)));
  }

  return {
    element,
    offer,
    show,
    get: () => ({ name: name.value, text: values.value, replaces: name.value in GRID_REPLACES ? replaces.value : "" }),
    set(side) {
      name.value = fields().has(side.name) ? side.name : "";
      arrange();
      values.value = name.value ? side.text : "";
      replaces.value = side.replaces ?? "";
    },
  };
}
