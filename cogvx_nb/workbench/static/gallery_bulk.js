// What can be done with the chosen results of the gallery.

const GALLERY_COMPARED = 6;

/** The row above the cards: how many there are, filters in use, and what can be done with the chosen. */
function GalleryBulk(app, { chips, chosen, clear, reload, trashed, total }) {
  const count = h("span", { class: "cogvx-gallery-total", role: "status" });
  const compare = button("Compare", { icon: "compare", title: "play two to six in step", on: () => app.compare(chosen()) });
  const stars = button("Stars and tags", { icon: "star", title: "stars and tags of the chosen", on: () => galleryMarkDialog(app, chosen()) });
  const share = button("Export", { icon: "share", title: "download the chosen in another format", on: () => shareChoose(app, chosen()) });
  const finish = button("Finish…", { icon: "more", title: "more frames a second, or larger ones, as new videos", on: () => finishChoose(app, chosen()) });
  const trash = button("To the trash", { icon: "trash", title: "move the chosen to the trash", on: () => moveAway(chosen()) });
  const restore = button("Put back", { icon: "undo", title: "move the chosen out of the trash", on: () => putBack(chosen()) });
  const empty = button("Empty the trash", { icon: "trash", on: () => askToEmpty() });
  const none = button("", { icon: "close", title: "choose none", on: clear });
  const actions = h("span", { class: "cogvx-gallery-actions", role: "toolbar", "aria-label": "The chosen results" }, compare, stars, finish, share, trash, restore, empty, none);
  const element = h("div", { class: "cogvx-gallery-status" }, count, chips, actions);

  function show() {
    const all = total();
    const few = chosen().length;
    const bin = trashed();
    const results = all === 1 ? "1 result" : `${(all ?? 0).toLocaleString("en")} results`;
    setText(count, all === null ? "looking…" : few ? `${few} of ${all.toLocaleString("en")} chosen` : bin ? `${results} in the trash` : results);
    for (const one of [compare, stars, finish, share, trash]) one.hidden = bin || !few;
    compare.disabled = few < 2 || few > GALLERY_COMPARED;
    restore.hidden = !bin || !few;
    empty.hidden = !bin || Boolean(few);
    empty.disabled = !all;
    none.hidden = !few;
  }

  async function moveAway(paths) {
    const { data } = await app.run("gallery.trash", { paths });
    if (!data) return;
    for (const problem of data.problems) app.tell(problem, "error");
    if (data.done.length) app.gone(paths);
    clear();
    reload();
    const many = data.done.length;
    if (many) app.tell(many === 1 ? "It is in the trash." : `${many} results are in the trash.`, "info", () => putBack(data.done));
  }

  async function putBack(paths) {
    const { data } = await app.run("gallery.restore", { paths });
    if (!data) return;
    for (const problem of data.problems) app.tell(problem, "error");
    clear();
    reload();
    if (data.done.length) app.tell(data.done.length === 1 ? "It is back." : `${data.done.length} results are back.`);
  }

  function askToEmpty() {
    const many = total();
    const files = many === 1 ? "1 video" : `${many.toLocaleString("en")} videos`;
    const go = button(`Delete ${files}`, { primary: true, icon: "trash", on: async () => {
      box.close();
      const { data } = await app.run("gallery.empty", { count: many });
      reload();
      if (data) app.tell(data.deleted === 1 ? "1 video was deleted." : `${data.deleted} videos were deleted.`);
    } });
    const box = app.dialog("Empty the trash", h("div", { class: "cogvx-column" },
      h("p", { text: `${files} in the trash will be deleted with their settings, stars, tags and notes. This can't be undone.` }), go));
  }

  return { element, show, moveAway, putBack };
}

/** Stars and tags of several results at once. */
function galleryMarkDialog(app, paths) {
  const stars = StarButtons(async (value) => {
    stars.set(value);
    await changeMarks(app, paths, { stars: value });
  });
  const tag = h("input", { "aria-label": "Tags, with commas between them", placeholder: "tags, with commas between them", maxlength: 400 });
  const change = async (name) => {
    const tags = tag.value.split(",").map((one) => one.trim()).filter(Boolean);
    if (tags.length && (await changeMarks(app, paths, { [name]: tags })).length) box.close();
  };
  const box = app.dialog(paths.length === 1 ? "Stars and tags" : `Stars and tags of ${paths.length} results`, h("div", { class: "cogvx-column" },
    stars.element, tag,
    h("span", { class: "cogvx-gallery-actions" }, button("Add tags", { primary: true, on: () => change("add_tags") }), button("Remove tags", { on: () => change("remove_tags") }))));
}
