// Grid: plan the videos of two or three sides, watch their sheet, open earlier ones.

/** The view Grid. */
function GridPlanner(app) {
  const sides = GridSides(app, () => plan());
  const prompt = h("p", { class: "cogvx-grid-prompt" });
  const status = h("p", { class: "cogvx-grid-status", role: "status" });
  const notes = h("ul", { class: "cogvx-grid-notes" });
  const kept = h("p", { class: "cogvx-grid-kept" });
  const make = button("Make grid", { icon: "play", primary: true, title: "put all of its videos into the queue", on: submit });
  const sweep = button("As a sweep", { icon: "copy", title: "the file of a sweep that makes the same videos headless", on: showSweep });
  const sheet = GridSheet(app, { refresh: () => refresh(), extend });
  const list = h("ul", { class: "cogvx-grid-list-made" });
  const none = h("small", { text: "There is none yet.", hidden: true });
  const earlier = h("details", { class: "cogvx-grid-earlier" }, h("summary", { text: "Earlier grids" }), none, list);
  const element = h("div", { class: "cogvx-grid" },
    h("div", { class: "cogvx-grid-head" }, h("h2", { text: "Grid" }), prompt),
    sides.element,
    h("div", { class: "cogvx-grid-plan" }, make, sweep, status), kept, notes, sheet.element, earlier);
  let reuse = "";
  let asked = 0;
  let latest = 0; // number of the grid that was asked for last
  let making = false; // whether a grid is put into the queue
  let failed = ""; // name of the grid whose state couldn't be read
  let opened = false;

  const visible = () => app.view() === "grid"; // another tab of JupyterLab may be in front
  const planSoon = debounce(showPlan, 250);

  function plan() {
    asked += 1; // what is on its way is of what was typed before
    planSoon();
  }

  async function showPlan() {
    if (making) return undefined; // it is asked for again afterwards
    const number = ++asked;
    const wanted = sides.get();
    if (!wanted.some((side) => side.name && side.text.trim())) return said("Choose what varies, and its values.", []);
    if (!status.textContent) setText(status, "counting…");
    try {
      const { data } = await app.ask("grid.plan", { sides: wanted, reuse });
      if (number !== asked) return undefined;
      sides.show(data.sides);
      return said(data.text, data.notes, true);
    } catch (error) {
      if (number !== asked) return undefined;
      return said(error.message, [], false, true);
    }
  }

  function said(text, lines, good = false, wrong = false) {
    setText(status, text);
    status.classList.toggle("cogvx-grid-wrong", wrong);
    make.disabled = sweep.disabled = !good;
    notes.replaceChildren(...lines.map((line) => h("li", { text: line })));
    if (!good) sides.show(null);
  }

  async function submit() {
    making = make.disabled = true;
    asked += 1; // a plan that is on its way would offer to make it once more
    setText(status, "putting them into the queue…");
    const { data } = await app.run("grid.make", { sides: sides.get(), reuse });
    making = false;
    plan();
    if (!data) return;
    latest += 1;
    setReuse("");
    sheet.show(data);
    look();
  }

  async function showSweep() {
    const { data } = await app.run("grid.sweep", { sides: sides.get() });
    if (!data) return;
    app.dialog("sweep.yaml", h("div", { class: "cogvx-column" },
      h("p", { text: "Save it as sweep.yaml, and run it with: cogvx sweep sweep.yaml" }),
      h("pre", { text: data.text, tabindex: 0 }),
      h("div", {}, button("Copy", { icon: "copy", on: () => app.copy(data.text) }))));
  }

  /** An earlier grid's sides into the fields; its videos are taken over where they stay the same. */
  function extend(grid) {
    sides.set(grid.sides);
    setReuse(grid.name);
    plan();
    element.scrollIntoView({ block: "start" });
    sides.element.querySelector("select").focus();
  }

  function setReuse(name) {
    reuse = name;
    setText(kept, name ? "Videos of the grid below are taken over where their settings stay the same." : "");
  }

  const refresh = debounce(async () => {
    const name = sheet.name();
    if (!name || !visible()) return;
    try {
      const { data } = await app.ask("grid.state", { name });
      if (name === sheet.name()) sheet.show(data);
      failed = "";
    } catch (error) {
      if (name !== failed) app.tell(error.message, "error"); // once, though it is asked for at each step
      failed = name;
    }
  }, 150);

  async function openGrid(name) {
    const number = ++latest;
    const { data } = await app.run("grid.open", { name });
    if (!data || number !== latest) return;
    sheet.show(data);
    sheet.element.scrollIntoView({ block: "nearest" });
  }

  /** The list of earlier grids; the newest one is shown where none is. */
  async function look() {
    const { data } = await app.run("grid.list");
    if (!data) return;
    none.hidden = data.grids.length > 0;
    const rows = [...data.grids.map((grid) => ({ key: grid.name, grid })), ...data.problems.map((line) => ({ key: line, line }))];
    keepChildren(list, rows, (row) => row.key, ({ grid, line }) =>
      line ? h("li", {}, h("small", { text: line })) : h("li", {}, h("button", { type: "button", class: "cogvx-link cogvx-grid-earlier-title", on: { click: () => openGrid(grid.name) }, text: grid.title }), h("small")),
    (item, { grid }) => grid && setText(item.lastChild, `${grid.size} · ${grid.done} of ${grid.count} made · ${formatAgo(grid.made)}`));
    if (!rows.length) list.replaceChildren();
    if (!sheet.name() && data.grids.length) openGrid(data.grids[0].name);
  }

  /** What can vary depends on the LoRAs of the form. */
  async function offer() {
    const { data } = await app.run("grid.fields");
    if (data) sides.offer(data.fields);
  }

  async function start() {
    const { data } = await app.run("grid.fields");
    if (!data) return;
    opened = true;
    sides.offer(data.fields);
    const seed = Number(app.traits.form.seed);
    const first = seed >= 0 && seed < 2 ** 52 ? seed : 1;
    if (data.typed.some((side) => side.name)) sides.set(data.typed);
    else sides.set([{ name: "seed", text: `${first}-${first + 2}`, replaces: "" }]);
    plan();
  }

  app.watch("jobs", () => !sheet.over() && refresh());
  app.watch("progress", (now) => visible() && sheet.progress(now));
  app.watch("form", (form) => {
    setText(prompt, form.prompt ? `varies “${form.prompt}”; everything else is as on the page Make` : "everything else is as on the page Make");
    if (opened && visible()) plan();
  });
  make.disabled = sweep.disabled = true;

  return {
    element,
    open() {
      if (opened) offer().then(plan);
      else start();
      look();
      refresh();
    },
  };
}
