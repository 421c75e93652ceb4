// The sheet of a grid: its cells as they are made, its pages as tabs, and what a click on one offers.

const GRID_STATES = {
  waiting: "waiting",
  running: "running",
  failed: "failed",
  cancelled: "cancelled",
  unfinished: "left unfinished by a kernel that ended",
  gone: "deleted or moved",
  lost: "not made",
};

/** The sheet; `refresh` is called where the grid changed. */
function GridSheet(app, { refresh, extend }) {
  let grid = null;
  let page = 0;
  const chosen = new Set(); // paths to compare
  const title = h("h3", { class: "cogvx-grid-title" });
  const facts = h("p", { class: "cogvx-grid-facts", role: "status" });
  const cancel = button("Cancel grid", { icon: "stop", title: "take the rest of it out of the queue", on: cancelRest });
  const sheet = button("Save this sheet", { icon: "share", title: "as PNG and mp4", on: saveSheet });
  const change = button("Change it", { icon: "load", title: "its sides into the fields above; videos that are made already stay", on: () => extend(grid) });
  const compare = button("Compare", { icon: "compare", on: () => app.compare([...chosen]) });
  const tabs = h("div", { class: "cogvx-tabs cogvx-grid-pages", role: "tablist", "aria-label": "Pages of the grid" });
  const table = h("table", { class: "cogvx-grid-table" });
  const panel = h("div", { class: "cogvx-grid-scroll", id: `${app.id}-grid-page`, role: "tabpanel", tabindex: 0, "aria-label": "Sheet" }, table);
  const element = h("section", { class: "cogvx-grid-sheet", "aria-label": "Grid", hidden: true },
    h("div", { class: "cogvx-grid-head" }, title, compare, change, sheet, cancel), facts, tabs, panel);
  const cells = new Map(); // number → {update}

  async function act(action, args) {
    const { data } = await app.run(action, args);
    show(data?.name === grid.name ? data : grid); // else what was said at the click would stay
  }

  function cancelRest() {
    cancel.disabled = true; // at once; the kernel may take a moment
    setText(facts, "cancelling…");
    act("grid.cancel", { name: grid.name });
  }

  function show(now) {
    const another = grid?.name !== now.name;
    grid = now;
    if (another) {
      page = 0;
      chosen.clear();
    }
    element.hidden = false;
    setText(title, grid.title);
    const count = grid.cells.length;
    const failed = grid.cells.filter((cell) => cell.state === "failed").length;
    setText(facts, `${grid.size} · ${grid.done} of ${count} made${failed ? ` · ${failed} failed` : ""} · ${formatAgo(grid.made)}`);
    cancel.disabled = grid.over;
    sheet.disabled = !grid.done;
    if (another) build();
    for (const cell of grid.cells) cells.get(cell.number)?.update(cell);
    showChosen();
  }

  /** The page's table: labels and empty cells. */
  function build() {
    cells.clear();
    const [across, down, pages] = grid.sides;
    const many = pages.labels.length > 1;
    tabs.hidden = !many;
    tabs.replaceChildren(...(many ? pages.labels.map(pageTab) : []));
    if (many) panel.setAttribute("aria-labelledby", `${app.id}-grid-page-${page}`);
    else panel.removeAttribute("aria-labelledby");
    const size = across.labels.length * down.labels.length;
    const head = across.name ? h("thead", {}, h("tr", {}, h("td"), across.labels.map((text) => h("th", { scope: "col", text })))) : null;
    const rows = down.labels.map((text, y) =>
      h("tr", {}, text ? h("th", { scope: "row", text }) : h("td"), across.labels.map((_, x) => {
        const number = page * size + y * across.labels.length + x;
        const names = [across.labels[x], text, many ? pages.labels[page] : ""].filter(Boolean).join(", ");
        const cell = GridCell(app, names, () => openCell(number, names), (path) => choose(path));
        cells.set(number, cell);
        return h("td", {}, cell.element);
      })));
    table.replaceChildren(...[head, h("tbody", {}, rows)].filter(Boolean));
  }

  function pageTab(text, number) {
    const turn = () => {
      page = number;
      build();
      show(grid);
      tabs.children[page].focus();
    };
    const walk = (event) => {
      const places = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!places) return;
      event.preventDefault();
      tabs.children[(number + places + tabs.children.length) % tabs.children.length].click();
    };
    return h("button", { type: "button", role: "tab", class: "cogvx-tab", id: `${app.id}-grid-page-${number}`, "aria-selected": String(number === page), "aria-controls": `${app.id}-grid-page`, tabindex: number === page ? 0 : -1, text, on: { click: turn, keydown: walk } });
  }

  function choose(path) {
    if (!chosen.delete(path)) chosen.add(path);
    showChosen();
  }

  function showChosen() {
    for (const cell of cells.values()) cell.mark(chosen);
    compare.disabled = chosen.size < 2;
    setText(compare.lastChild, chosen.size ? `Compare ${chosen.size}` : "Compare");
    compare.title = "those with a tick: C on a cell, or in what a click on it opens";
  }

  /** What can be done with a cell. */
  function openCell(number, names) {
    const cell = grid.cells[number];
    const { path } = cell;
    const there = cell.state === "done";
    const video = h("video", { class: "cogvx-grid-video", controls: true, loop: true, muted: true, "aria-label": names });
    const close = (then) => () => {
      box.close();
      then();
    };
    const again = (seed) => close(() => act("grid.again", { name: grid.name, cell: number, ...(seed === null ? {} : { seed }) }));
    const busy = ["waiting", "running"].includes(cell.state);
    const state = cell.error || (there ? `seed as shown, ${path}` : GRID_STATES[cell.state] ?? cell.state);
    const buttons = [
      there ? button("Show it", { icon: "play", title: "large, with all that can be done with it", on: close(() => app.choose(path)) }) : null,
      there ? button("Load its settings", { icon: "load", on: close(() => app.load(path)) }) : null,
      there ? button(chosen.has(path) ? "Not in the comparison" : "Add to the comparison", { icon: "compare", on: close(() => choose(path)) }) : null,
      busy ? null : button(there ? "Make it again" : "Make it", { icon: "again", on: again(null) }),
      busy ? null : button("With another seed", { icon: "dice", on: again(-1) }),
    ];
    const box = app.dialog(names || "Cell", h("div", { class: "cogvx-column" }, there ? video : null, h("small", { text: there ? path : state }), h("div", { class: "cogvx-grid-buttons" }, buttons)));
    if (!there) return;
    app.media.video(path).then((url) => {
      video.src = url;
      video.muted = true;
      if (!app.stillness()) video.play().catch(() => {});
    }, (error) => app.tell(error.message, "error"));
  }

  async function saveSheet() {
    sheet.disabled = true;
    const { data } = await app.run("grid.sheet", { name: grid.name, page });
    sheet.disabled = false;
    if (!data) return;
    app.tell(`The sheet is saved as ${data.png} and ${data.mp4.split("/").at(-1)}.`);
    await app.download(data.mp4);
    await app.download(data.png, "png");
  }

  return {
    element,
    show,
    name: () => grid?.name ?? "",
    over: () => grid?.over ?? true,
    /** The running job's step, in its cell. */
    progress(now) {
      const cell = grid?.cells.find((one) => one.job === now.id && now.id);
      if (!cell) return;
      if (cell.state === "waiting") refresh();
      cells.get(cell.number)?.step(now);
    },
  };
}

/** A cell: a poster that plays on hover, or how far it is. */
function GridCell(app, names, open, choose) {
  const picture = h("img", { alt: "", class: "cogvx-thumb", hidden: true });
  const text = h("span", { class: "cogvx-grid-state" });
  const tick = h("b", { class: "cogvx-badge", text: "✓", hidden: true });
  const fill = h("span", { class: "cogvx-grid-fill" });
  const element = h("button", { type: "button", class: "cogvx-grid-cell", "aria-label": names, on: { click: open, keydown: key } }, picture, text, tick, fill);
  let path = "";
  let there = false;
  let kind = ""; // poster or clip, as it is wanted now

  function key(event) {
    if (event.key !== "c" || event.ctrlKey || event.metaKey || !there) return;
    event.preventDefault();
    choose(path);
  }

  function update(cell) {
    const changed = cell.path !== path;
    path = cell.path;
    there = cell.state === "done";
    picture.hidden = !there;
    element.classList.toggle("cogvx-grid-failed", cell.state === "failed");
    fill.style.transform = "scaleX(0)";
    const words = there ? "" : cell.state === "failed" ? cell.error : GRID_STATES[cell.state] ?? cell.state;
    setText(text, words);
    element.title = [names, words, ...Object.entries(cell.changed).map(([name, value]) => `${name} ${value}`)].filter(Boolean).join(" · ");
    element.setAttribute("aria-label", `${names || "cell"}: ${there ? "done" : words}`);
    if (there && (changed || !picture.src)) rest();
  }

  function step(now) {
    setText(text, now.steps ? `${now.step} of ${now.steps}` : BAR_STAGES[now.stage] ?? "running");
    fill.style.transform = `scaleX(${now.share ?? 0})`;
  }

  async function set(now) {
    kind = now;
    const wanted = path;
    const url = await app.media[now](path).catch(() => "");
    if (url && wanted === path && now === kind) picture.src = url;
  }

  const rest = () => there && set("poster");
  const move = () => there && !app.stillness() && set("clip");
  for (const [event, act] of [["pointerenter", move], ["focus", move], ["pointerleave", rest], ["blur", rest]]) element.addEventListener(event, act);
  return { element, update, step, mark: (chosen) => (tick.hidden = !(there && chosen.has(path))) };
}
