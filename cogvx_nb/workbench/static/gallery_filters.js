// What of the gallery is shown, and in which order.

const GALLERY_TESTS = { "=": "is", "!=": "is not", "<": "below", "<=": "at most", ">": "above", ">=": "at least", "~": "contains" };
const GALLERY_SORTS = { made: "date", seconds: "time it took", stars: "stars" };
const GALLERY_GROUPS = { "": "no groups", prompt: "same prompt", grid: "same grid", sweep: "same sweep" };

const galleryLabel = (name) => GALLERY_SORTS[name] ?? name.replaceAll("_", " ");

/** Fields of a search. `changed` is called with it. */
function GalleryFilters(app, changed) {
  const state = { text: "", tag: "", stars: 0, where: [], sort: "made", ascending: false, group: "", trashed: false };
  let facets = { columns: [], tags: [], sorts: ["made"], groups: [] };

  const text = h("input", { type: "search", class: "cogvx-gallery-search", placeholder: "words of prompt, note or tags", "aria-label": "Search results" });
  const stars = galleryChoice("Stars", [[0, "any stars"], ...[1, 2, 3, 4, 5].map((n) => [n, n === 5 ? "★★★★★" : `${"★".repeat(n)} or more`])]);
  const tag = galleryChoice("Tag", [["", "any tag"]]);
  const sort = galleryChoice("Sort by", [["made", "date"]]);
  const group = galleryChoice("Groups", Object.entries(GALLERY_GROUPS));
  const direction = button("", { icon: "down", class: "cogvx-gallery-direction", on: () => change({ ascending: !state.ascending }) });
  const more = button("Filters", { icon: "menu", class: "cogvx-gallery-more", on: () => toggle() });
  const trash = button("Trash", { icon: "trash", class: "cogvx-gallery-trash", on: () => change({ trashed: !state.trashed, group: "" }) });
  const panel = h("div", { class: "cogvx-gallery-panel", hidden: true });
  const chips = h("ul", { class: "cogvx-gallery-chips", "aria-label": "Filters in use" });
  const bar = h("div", { class: "cogvx-gallery-bar", role: "search", "aria-label": "Results" },
    text, stars, tag, group, h("span", { class: "cogvx-gallery-sort" }, sort, direction), more, trash);
  const element = h("div", {}, bar, panel);

  text.addEventListener("input", debounce(() => change({ text: text.value }), 200));
  stars.addEventListener("change", () => change({ stars: Number(stars.value) }));
  tag.addEventListener("change", () => change({ tag: tag.value }));
  sort.addEventListener("change", () => change({ sort: sort.value, ascending: false }));
  group.addEventListener("change", () => change({ group: group.value }));

  function change(changes) {
    Object.assign(state, changes);
    show();
    changed({ ...state });
  }

  function show() {
    stars.value = String(state.stars);
    galleryOptions(tag, [["", "any tag"], ...withChosen(facets.tags, state.tag).map((name) => [name, name])], state.tag);
    galleryOptions(sort, withChosen(facets.sorts, state.sort).map((name) => [name, galleryLabel(name)]), state.sort);
    group.value = state.group;
    const order = state.ascending ? "lowest or oldest first" : "highest or newest first";
    direction.title = order;
    direction.setAttribute("aria-label", order);
    direction.classList.toggle("cogvx-gallery-up", state.ascending);
    trash.setAttribute("aria-pressed", state.trashed ? "true" : "false");
    more.disabled = !facets.columns.length; // until the first answer
    more.setAttribute("aria-expanded", panel.hidden ? "false" : "true");
    keepChildren(chips, state.where, galleryCondition, (condition) => {
      const name = galleryCondition(condition);
      return h("li", { class: "cogvx-chip" }, h("span", { text: name }),
        button("", { icon: "close", title: `remove the filter: ${name}`, on: () => change({ where: state.where.filter((one) => galleryCondition(one) !== name) }) }));
    });
  }

  function toggle(open = panel.hidden) {
    panel.hidden = !open;
    if (open) panel.replaceChildren(galleryConditionForm(facets, add));
    show();
    if (open) panel.querySelector("select")?.focus();
  }

  function add(condition) {
    const rest = state.where.filter((one) => galleryCondition(one) !== galleryCondition(condition));
    change({ where: [...rest, condition] });
  }

  async function refresh() {
    const { data } = await app.run("gallery.facets", { trashed: state.trashed });
    if (data) facets = data;
    show();
  }

  const withChosen = (values, chosen) => (chosen && !values.includes(chosen) ? [chosen, ...values] : values);

  show();
  return {
    element,
    chips,
    state,
    add: (condition, changes = {}) => {
      Object.assign(state, changes);
      add(condition);
    },
    clear: () => change({ text: (text.value = ""), tag: "", stars: 0, where: [], group: "" }),
    refresh,
    /** A result was marked: a new tag can be asked for too. */
    hear: debounce((row) => row.tags.every((name) => facets.tags.includes(name)) || refresh(), 100),
    focus: () => text.focus(),
    get empty() {
      return !(state.text || state.tag || state.stars || state.where.length || state.group);
    },
  };
}

function galleryChoice(label, options) {
  const element = h("select", { "aria-label": label, title: label });
  galleryOptions(element, options, options[0][0]);
  return element;
}

function galleryOptions(element, options, chosen) {
  const key = JSON.stringify(options);
  if (element.cogvxOptions !== key) {
    element.cogvxOptions = key;
    element.replaceChildren(...options.map(([value, label]) => h("option", { value, text: label })));
  }
  element.value = String(chosen);
}

const galleryCondition = ({ column, test, value }) => `${galleryLabel(column)} ${GALLERY_TESTS[test]} ${value}`;

/** A row of controls that makes a condition on any column. */
function galleryConditionForm(facets, add) {
  const column = galleryChoice("Setting", facets.columns.map(({ name }) => [name, galleryLabel(name)]));
  const test = h("select", { "aria-label": "Comparison" });
  const place = h("span");
  let value = null;

  function chosen() {
    return facets.columns.find(({ name }) => name === column.value);
  }

  function showTests() {
    const { kind, name } = chosen() ?? { kind: "str", name: "" };
    const tests = name === "made" ? [">=", "<"] : kind === "str" ? ["=", "!=", "~"] : kind === "bool" ? ["="] : ["=", "!=", ">=", "<="];
    galleryOptions(test, tests.map((one) => [one, GALLERY_TESTS[one]]), tests[0]);
    showValue();
  }

  function showValue() {
    const { kind, name, values } = chosen() ?? { kind: "str", values: [] };
    const listed = kind === "bool" ? [true, false] : values;
    if (listed?.length && ["=", "!="].includes(test.value)) {
      value = galleryChoice("Value", listed.map((one) => [one, String(one)]));
    } else {
      const type = name === "made" ? "date" : kind === "str" ? "text" : "number";
      value = h("input", { type, step: "any", "aria-label": "Value", required: true });
    }
    place.replaceChildren(value);
  }

  column.addEventListener("change", showTests);
  test.addEventListener("change", showValue);
  const form = h("form", { class: "cogvx-gallery-condition", "aria-label": "Another filter" }, column, test, place, h("button", { type: "submit", class: "cogvx-button" }, h("span", { text: "Add filter" })));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (value?.value) add({ column: column.value, test: test.value, value: value.value });
  });
  if (facets.columns.some(({ name }) => name === "steps")) column.value = "steps";
  showTests();
  return form;
}
