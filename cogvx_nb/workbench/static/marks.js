// Stars, tags and the note of a result.

const MARKS_STARS = 5;
const marksListeners = new Set(); // called with each row whose marks have changed

function tellMarks(rows) {
  for (const row of rows) for (const hear of marksListeners) hear(row);
}

/** Change marks of results; says what goes wrong. Returns their new rows. */
async function changeMarks(app, paths, changes) {
  const { data } = await app.run("gallery.mark", { paths, ...changes });
  for (const problem of data?.problems ?? []) app.tell(problem, "error");
  tellMarks(data?.done ?? []);
  return data?.done ?? [];
}

/** Five buttons; the chosen one again takes the stars away. `choose` is called with the number. */
function StarButtons(choose) {
  let stars = 0;
  const buttons = Array.from({ length: MARKS_STARS }, (_, place) =>
    button("", { icon: "star", class: "cogvx-star", title: place ? `${place + 1} stars` : "1 star", on: () => choose(place + 1 === stars ? 0 : place + 1) }));
  const element = h("div", { class: "cogvx-stars", role: "group", "aria-label": "Stars" }, buttons);
  return {
    element,
    set(value) {
      stars = value;
      buttons.forEach((one, place) => {
        one.classList.toggle("cogvx-star-on", place < stars);
        one.setAttribute("aria-pressed", place < stars ? "true" : "false");
      });
    },
  };
}

/** Stars, tags and note of the result of a path, to be changed. */
function MarksEditor(app, path) {
  const stars = StarButtons((value) => change({ stars: value }));
  const tags = h("ul", { class: "cogvx-tags", "aria-label": "Tags" });
  const listId = `${app.id}-known-tags`;
  const known = h("datalist", { id: listId });
  const tag = h("input", { class: "cogvx-tag-input", "aria-label": "Add a tag", placeholder: "add a tag", maxlength: 40, list: listId, autocomplete: "off" });
  const note = h("textarea", { class: "cogvx-note", rows: 1, "aria-label": "Note on this video", placeholder: "note", maxlength: 2000 });
  const element = h("div", { class: "cogvx-marks" }, h("div", { class: "cogvx-marks-row" }, stars.element, tags, tag, known), note);
  let kept = ""; // the note as it is on disk

  function show(row) {
    stars.set(row.stars);
    keepChildren(tags, row.tags, (name) => name, (name) =>
      h("li", { class: "cogvx-chip" }, h("span", { text: name }),
        button("", { icon: "close", title: `remove the tag ${name}`, on: () => change({ remove_tags: [name] }) })));
    if (note.value === kept) note.value = row.note;
    kept = row.note;
  }

  async function change(changes) {
    await changeMarks(app, [path], changes);
  }

  function keepNote() {
    if (note.value !== kept) change({ note: note.value });
  }

  tag.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.ctrlKey || event.metaKey || event.isComposing) return;
    event.preventDefault();
    const names = tag.value.split(",").map((name) => name.trim()).filter(Boolean);
    tag.value = "";
    if (names.length) change({ add_tags: names });
  });
  tag.addEventListener("focus", async () => {
    const { data } = await app.run("gallery.tags");
    known.replaceChildren(...(data ?? []).map((value) => h("option", { value })));
  });
  note.addEventListener("change", keepNote);
  note.addEventListener("input", debounce(keepNote, 1000));
  const hear = (row) => {
    if (!element.isConnected) marksListeners.delete(hear);
    else if (row.path === path) show(row);
  };
  app.run("gallery.row", { path }).then(({ data }) => {
    marksListeners.add(hear);
    if (!data) return;
    show(data);
    if (data.marks_problem) app.tell(data.marks_problem, "error");
  });
  return { element };
}
