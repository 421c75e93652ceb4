// Storyboard: rows of a prompt, a length and a transition; one video of all of them.

/** The view Storyboard. The kernel holds the table: each change goes there. */
function Storyboard(app) {
  const settings = h("p", { class: "cogvx-board-settings" });
  const body = h("tbody");
  const table = h("table", { class: "cogvx-board-table", "aria-label": "Pieces of the storyboard" },
    h("thead", {}, h("tr", {}, ["Piece", "Prompt", "Frames", "Transition", "", ""].map((text, place) =>
      h("th", { scope: "col", class: `cogvx-board-head-${place}` }, text || h("span", { class: "cogvx-hidden", text: place === 4 ? "State" : "Move or remove" }))))), body);
  const add = button("Add a row", { icon: "add", title: "at the end (Enter in the last row)", on: () => insert(rows.length) });
  const seed = h("input", { type: "number", min: 0, step: 1, class: "cogvx-board-seed", "aria-label": "Seed of all pieces", on: { input: edited } });
  const dice = button("", { icon: "dice", title: "another seed: all pieces are made again", on: () => { seed.value = Math.floor(Math.random() * 2 ** 31); edited(); } });
  const make = button("Make storyboard", { icon: "play", primary: true, class: "cogvx-board-make", title: "put it into the queue (Ctrl+Enter); pieces that are there are taken", on: submit });
  const show = button("Show it", { icon: "check", class: "cogvx-board-show", on: () => app.choose(path) });
  const status = h("p", { class: "cogvx-board-status", role: "status" });
  const problem = h("p", { class: "cogvx-problem", role: "status" });
  const element = h("div", { class: "cogvx-board", on: { keydown, paste, focusin, pointerenter: () => refresh() } },
    h("div", { class: "cogvx-board-title" }, h("h2", { text: "Storyboard" }), settings), table,
    h("div", { class: "cogvx-board-buttons" }, add, h("label", { class: "cogvx-board-seeds" }, "Seed", seed), dice,
      h("small", { text: "Lines that are pasted from a spreadsheet become rows." })),
    problem, h("div", { class: "cogvx-board-buttons" }, make, show, status));
  let rows = []; // see BoardEntry
  let transitions = {};
  let path = "";
  let asked = 0;
  let known = ""; // the table as the kernel has it, as far as this page knows
  let unsent = false; // whether it has been changed since
  let seen = ""; // how it stood with the pieces

  const visible = () => app.view() === "storyboard"; // another tab of JupyterLab may be in front
  const typed = () => ({ rows: rows.map((row) => row.value), seed: Number.isSafeInteger(seed.valueAsNumber) && seed.valueAsNumber >= 0 ? seed.valueAsNumber : 0 });
  const send = debounce(async () => {
    const number = ++asked;
    const table = typed();
    try {
      const { data } = await app.ask("board.edit", table);
      if (number !== asked) return;
      keep(table);
      stand(data);
    } catch (error) {
      if (number === asked) stand({ problem: { row: 0, text: error.message } });
    }
  }, 250);

  function edited() {
    asked += 1; // what is on its way is of other rows
    unsent = true;
    send();
  }

  /** Note that the kernel has this table. */
  function keep({ rows, seed }) {
    known = JSON.stringify([rows, seed]);
    unsent = false;
  }

  function put(values) {
    rows = values.map((value) => BoardEntry(value, transitions, acts));
    body.replaceChildren(...rows.map((row) => row.element));
    number();
  }

  function number() {
    rows.forEach((row, place) => row.place(place, rows.length, app.traits.form.frames));
  }

  /** A new row with a prompt to be typed. */
  function insert(place, value = {}) {
    const row = BoardEntry({ prompt: "", frames: null, transition: "cut", ...value }, transitions, acts);
    rows.splice(place, 0, row);
    body.insertBefore(row.element, body.children[place] ?? null);
    number();
    row.focus();
    edited();
  }

  const acts = {
    edited(row) {
      row.stand("", null); // how it was adjusted stays until the answer
      edited();
    },
    next(row) {
      const place = rows.indexOf(row) + 1;
      if (rows[place]) rows[place].focus();
      else insert(place);
    },
    move(row, places, keep) {
      const place = rows.indexOf(row) + places;
      if (place < 0 || place >= rows.length) return;
      rows.splice(rows.indexOf(row), 1);
      rows.splice(place, 0, row);
      body.replaceChildren(...rows.map((one) => one.element));
      number();
      keep.focus();
      if (document.activeElement !== keep) row.focus(); // the button is off at the ends
      edited();
    },
    remove(row) {
      const place = rows.indexOf(row);
      const { value } = row;
      rows.splice(place, 1);
      row.element.remove();
      number();
      (rows[Math.min(place, rows.length - 1)] ?? { focus: () => add.focus() }).focus();
      edited();
      if (value.prompt) app.tell("The row is removed.", "info", () => insert(place, value));
    },
  };

  function keydown(event) {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    submit();
  }

  /** Another page may have been in use. A pointer comes before its click, which would send what is here. */
  function focusin(event) {
    if (!element.contains(event.relatedTarget)) refresh();
  }

  /** Several lines become rows, from the row on that has the keyboard. */
  async function paste(event) {
    const text = event.clipboardData?.getData("text/plain") ?? "";
    if (text.trim().split("\n").length < 2 && !text.trim().includes("\t")) return;
    event.preventDefault();
    const here = rows.findIndex((row) => row.element.contains(document.activeElement));
    const before = rows.map((row) => row.value);
    const { data } = await app.run("board.paste", { text });
    if (!data?.length) return;
    const at = here < 0 ? before.length : before[here].prompt ? here + 1 : here;
    const after = before.slice(at).filter((row, place) => row.prompt || (row.transition === "continue" && at + place !== here));
    put([...before.slice(0, at), ...data, ...after]);
    rows[at].focus();
    edited();
    app.tell(data.length === 1 ? "One row was put in." : `${data.length} rows were put in.`, "info", () => { put(before); edited(); });
  }

  async function submit() {
    send.cancel();
    const number = ++asked;
    make.disabled = true;
    const table = typed();
    const { data } = await app.run("queue.storyboard", table);
    make.disabled = false;
    if (data && number === asked) {
      keep(table);
      stand(data);
    }
    if (data?.problem?.row) rows[data.problem.row - 1]?.focus();
  }

  /** How it stands with the pieces, and what is wrong in which row. */
  function stand({ states = null, told = null, path: made = null, problem: wrong = null, changes = null }) {
    const inRow = wrong && wrong.row >= 1 && wrong.row <= rows.length;
    setText(problem, wrong && !inRow ? wrong.text : "");
    problem.hidden = !problem.textContent;
    rows.forEach((row, place) => row.stand(states?.[place] ?? "", inRow && wrong.row === place + 1 ? wrong : null, changes && changes[place]));
    if (told !== null) setText(status, told);
    if (made !== null) path = made;
    show.hidden = !path;
  }

  /** Ask how it stands; the rows are those of the page, unless another page has changed them and this one has not. */
  const refresh = debounce(async () => {
    if (!visible()) return;
    const number = asked;
    const { data } = await app.run("board.show");
    if (!data || number !== asked) return; // else the answer to what was typed comes
    const changed = JSON.stringify([data.rows, data.seed]) !== known;
    if (changed && unsent) return; // how it stands is of other rows
    if (changed) take(data);
    stand(data);
  }, 100);

  /** The table of the kernel; the keyboard stays in its row. */
  function take(data) {
    const here = rows.findIndex((row) => row.element.contains(document.activeElement));
    transitions = data.transitions;
    seed.value = data.seed;
    put(data.rows);
    keep(data);
    if (here >= 0) (rows[here] ?? rows.at(-1) ?? add).focus();
  }

  app.watch("jobs", refresh);
  app.watch("progress", ({ id, pieces }) => {
    const now = `${id} ${pieces}`;
    if (now !== seen) refresh();
    seen = now;
  });
  app.watch("form", (form) => {
    setText(settings, `${form.model}, ${form.steps} steps; what isn't in the table is as on the page Make`);
    number();
  });
  show.hidden = problem.hidden = true;
  return { element, open: refresh };
}
