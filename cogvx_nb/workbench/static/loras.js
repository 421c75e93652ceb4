// LoRAs of the form: added from the library, by a path or as a dropped file, each with its weight.

const LORA_SLIDER = 2; // of the slider, in both directions
const LORA_MOST = 10; // of a typed weight

/** The part "LoRA" of the form. Its value is the text of the field. */
function FormLoras(app, changed, addWords) {
  let text = ""; // of the field: as it was given, and of the rows once they are edited
  let rows = []; // of "lora.show", with the weights as they are now
  let asked = 0; // how often the rows of a text were asked for
  let made = 0; // rows
  let lists = 0; // how often another list was given
  const menu = LoraMenu(app, add);
  const count = h("span", { class: "cogvx-input-title", text: "LoRA" });
  const problem = h("p", { class: "cogvx-problem cogvx-loras-problem", role: "status" });
  const clear = button("Remove", { class: "cogvx-small", title: "remove what can't be read", on: clearAll });
  const list = h("ul", { class: "cogvx-loras-list", "aria-label": "LoRAs" });
  const wrong = h("div", { class: "cogvx-loras-wrong", hidden: true }, problem, clear);
  const element = h("div", { class: "cogvx-loras", role: "group", "aria-label": "LoRA" },
    h("div", { class: "cogvx-input-line cogvx-loras-line" }, count, menu.element), wrong, list);

  function edited() {
    text = rows.map(loraText).join(", ");
    changed();
  }

  async function add(file) {
    const [before, list] = [rows, lists];
    try {
      const { data } = await app.ask("lora.add", { text, file });
      if (list !== lists) return add(file); // it is to be in the list that is here now
      if (!before.length) asked++; // all rows of the text are in this answer
      showRows(merged(data.rows, before));
      edited();
      return true;
    } catch (error) {
      app.tell(error.message, "error");
      return false;
    }
  }

  async function read() {
    const [number, before] = [++asked, rows];
    if (!text.trim()) return showRows([]);
    try {
      const { data } = await app.ask("lora.show", { text });
      if (number === asked) showRows(merged(data.rows, before));
    } catch (error) {
      if (number !== asked) return undefined;
      setText(problem, error.message);
      wrong.hidden = false;
    }
    return undefined;
  }

  /** The rows of an answer with what was edited since it was asked for; `before`: the rows there were then. */
  function merged(answer, before) {
    const among = (some, row) => some.find((one) => one.written === row.written);
    for (const row of rows) {
      const { facts, problem } = among(answer, row) ?? row;
      Object.assign(row, { facts, problem });
    }
    return [...rows, ...answer.filter((row) => !among(rows, row) && !among(before, row))];
  }

  function clearAll() {
    asked++;
    text = "";
    showRows([]);
    changed();
  }

  function remove(row) {
    const place = rows.indexOf(row);
    showRows(rows.filter((one) => one !== row));
    edited();
    (list.children[Math.min(place, rows.length - 1)]?.querySelector("input") ?? menu.toggle).focus();
  }

  function showRows(now) {
    rows = now;
    wrong.hidden = true;
    list.hidden = !rows.length;
    for (const row of rows) row.id ??= `${app.id}-lora-${++made}`;
    keepChildren(list, rows, ({ id, facts, problem: why }) => JSON.stringify([id, facts, why]), (row) => LoraEntry(row, edited, remove, addWords));
  }

  showRows([]);
  let model = "";
  app.watch("form", (form) => {
    if (form.model === model) return;
    model = form.model;
    if (text) read(); // another checkpoint: does it fit?
  });
  return {
    element,
    get value() { return text; },
    set value(given) {
      if ((given ?? "") === text) return;
      lists++;
      text = given ?? "";
      showRows([]); // one can't edit what isn't there any more
      read();
    },
    /** Add a file that was kept; `written`: what the text names it by, where it is in it already. */
    include({ file, written }) {
      if (!text.includes(written)) add(file);
    },
  };
}

/** A row as the field's text has it. */
function loraText({ written, weight, alpha }) {
  return `${written}:${weight}${alpha === null ? "" : `@alpha=${alpha}`}`;
}

/** A LoRA of the form: its weight, what its file is, its trigger words. */
function LoraEntry(row, edited, remove, addWords) {
  const { facts } = row;
  const most = LORA_SLIDER;
  const slider = h("input", { type: "range", min: -most, max: most, step: 0.05, "aria-label": `Weight of ${row.name}`, on: { input: () => set(slider.value, number) } });
  const number = h("input", { type: "number", class: "cogvx-lora-weight", min: -LORA_MOST, max: LORA_MOST, step: 0.05, "aria-label": `Weight of ${row.name} as a number`, on: { input: () => set(number.value, slider) } });
  const alpha = h("input", { type: "number", class: "cogvx-lora-alpha", min: 0, step: "any", placeholder: facts.alpha, "aria-label": `Alpha of ${row.name}`, on: { input: onAlpha } });
  const wrong = h("p", { class: "cogvx-problem cogvx-lora-problem", id: `${row.id}-wrong`, role: "status", "aria-live": "polite", hidden: true });
  const reasons = new Map(); // control → why its value isn't used
  const problem = row.problem ? h("p", { class: "cogvx-problem cogvx-lora-problem", id: `${row.id}-problem`, role: "status", "aria-live": "polite", text: row.problem }) : null;
  setInvalid(number, problem);
  slider.value = number.value = row.weight;
  alpha.value = row.alpha ?? "";

  function set(weight, other) {
    const wanted = Number(weight);
    const good = weight !== "" && Math.abs(wanted) <= LORA_MOST;
    judge(number, good, `Its weight must be between -${LORA_MOST} and ${LORA_MOST}: ${row.weight} stays.`);
    if (!good) return;
    row.weight = wanted;
    other.value = wanted;
    edited();
  }

  /** Say why what is typed isn't used. */
  function judge(control, good, reason) {
    if (good) reasons.delete(control);
    else reasons.set(control, reason);
    setText(wrong, [...reasons.values()].join(" "));
    wrong.hidden = !reasons.size;
    setInvalid(control, good ? control === number && problem : wrong);
  }

  function onAlpha() {
    const wanted = Number(alpha.value);
    // The browser gives what is no number as an empty text.
    const good = !alpha.validity.badInput && (alpha.value === "" || (wanted > 0 && wanted < 1e6));
    judge(alpha, good, `Its alpha must be a number above 0, or empty for the file's own: ${row.alpha ?? facts.alpha} stays.`);
    if (!good) return;
    row.alpha = alpha.value === "" ? null : wanted;
    edited();
  }

  const about = [
    facts.base && `base ${facts.base}`,
    facts.fits.length && `fits ${facts.fits.slice(0, 3).join(", ")}${facts.fits.length > 3 ? "…" : ""}`,
    facts.rank && `rank ${facts.rank}`,
    facts.alpha && `alpha ${facts.alpha}, ${facts.alpha_from}`,
  ].filter(Boolean).join(" · ");
  const hint = facts.alpha_from.startsWith("assumed") ? "If it is too strong, its alpha may be smaller: type it." : "";
  return h("li", { class: "cogvx-lora" },
    h("div", { class: "cogvx-lora-head" }, h("b", { class: "cogvx-lora-name", text: row.name, title: row.name }),
      h("span", { class: "cogvx-lora-slider" }, slider, number),
      button("", { icon: "close", class: "cogvx-input-remove", title: `without ${row.name}`, on: () => remove(row) })),
    wrong,
    problem,
    h("div", { class: "cogvx-lora-facts" }, h("small", { text: [about, hint].filter(Boolean).join(". ") }),
      h("label", { class: "cogvx-lora-alpha-label" }, "alpha", alpha)),
    facts.triggers.length ? h("div", { class: "cogvx-lora-triggers", role: "group", "aria-label": `Trigger words of ${row.name}` },
      facts.triggers.map((words) => button(words, { icon: "add", class: "cogvx-chip", title: `put “${words}” into the prompt`, on: () => addWords(words) }))) : null);
}

/** The button that adds one: the library, a path, a file. */
function LoraMenu(app, add) {
  const path = h("input", { type: "text", class: "cogvx-lora-path", placeholder: "path of a .safetensors", "aria-label": "LoRA: path of a file", spellcheck: "false", on: { keydown: (event) => event.key === "Enter" && (event.preventDefault(), take(path.value.trim())) } });
  const file = h("input", { type: "file", accept: ".safetensors", tabindex: -1, "aria-label": "LoRA: a file", hidden: true, on: { change: onFile } });
  const list = h("ul", { "aria-label": "LoRAs in models/loras" });
  const note = h("p", { class: "cogvx-popup-note", "aria-live": "polite" });
  const ways = h("div", { class: "cogvx-input-ways" }, button("Choose a file…", { class: "cogvx-input-choose", on: () => file.click() }), path,
    button("Add", { class: "cogvx-input-choose", on: () => take(path.value.trim()) }), file);
  const menu = PromptMenu("Add", { icon: "add", title: "Add a LoRA" }, [ways, note, list], open);

  function onFile() {
    if (file.files[0]) app.give(file.files[0], "lora");
    file.value = "";
    menu.close(true);
  }

  async function take(name) {
    if (!name) return;
    if (!(await add(name))) return;
    path.value = "";
    menu.close(true);
  }

  async function open() {
    setText(note, "looking…");
    const { data } = await app.run("lora.library");
    setText(note, data?.length ? "" : "There is none in models/loras yet: drop a .safetensors on the page.");
    list.replaceChildren(...(data ?? []).map((row) =>
      promptMenuRow(row.name, row.problem || `fits · rank ${row.facts.rank} · alpha ${row.facts.alpha}`, () => take(row.written))));
    path.focus();
  }

  return menu;
}
