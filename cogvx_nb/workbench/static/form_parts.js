// Parts of the form: length and speed with what each costs, and the seed.

/** Length and speed: a table of radio buttons, each with its predicted time and memory. */
function FormLengths(app, changed) {
  const group = `cogvx-length-${Math.random().toString(36).slice(2)}`;
  const table = h("table", { class: "cogvx-lengths" });
  const element = h("fieldset", { class: "cogvx-lengths-box", role: "radiogroup" }, h("legend", { text: "Length and speed" }), table);
  const speeds = app.traits.setup.fields.find((row) => row.name === "speed").choices;
  let shown = ""; // name of the model whose lengths these are
  const cells = new Map(); // "frames speed" → {input, cost}
  const heads = new Map(); // speed → its column's head, with how far its videos lie from exact
  let counts = []; // of frames, all that the model makes
  let fps = 0;
  let extra = null; // {frames, row}: a length that is none of the modes, such as that of a result or as many new frames

  function show(model) {
    if (model.name === shown) return; // with what was predicted for it
    shown = model.name;
    const chosen = value();
    cells.clear();
    extra = null;
    ({ counts, fps } = model);
    table.replaceChildren(
      h("thead", {}, h("tr", {}, h("td"), speeds.map(head))),
      h("tbody", {}, model.modes.map(([name, frames, seconds]) => lengthRow(name, frames, seconds))));
    if (!chosen.frames) return;
    // Of another model the nearest mode is as good, unless this one makes just as many frames.
    set(counts.includes(chosen.frames) ? chosen : { ...chosen, frames: nearest(chosen.frames, model.modes.map(([, count]) => count)) });
  }

  function head([speed, label]) {
    heads.set(speed, h("th", { scope: "col" }, label));
    return heads.get(speed);
  }

  function lengthRow(name, frames, seconds) {
    return h("tr", {},
      h("th", { scope: "row", title: `${frames} frames` }, name, h("small", { text: `${seconds} s video` })),
      speeds.map(([speed]) => cell(name, frames, speed)));
  }

  /** Add the row of a length that is none of the modes; it replaces another such one. */
  function addRow(frames) {
    if (extra) {
      extra.row.remove();
      for (const [speed] of speeds) cells.delete(`${extra.frames} ${speed}`);
    }
    extra = { frames, row: lengthRow(`${frames} frames`, frames, Math.round((10 * frames) / fps) / 10) };
    table.tBodies[0].append(extra.row);
  }

  const nearest = (wanted, all) => all.reduce((a, b) => (Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a), all[0]);

  function cell(name, frames, speed) {
    const input = h("input", { type: "radio", name: group, value: `${frames} ${speed}`, "aria-label": `${name}, ${frames} frames, ${speed}`, on: { change: changed } });
    const cost = h("span", { class: "cogvx-cost" }, h("small", { text: "…" }));
    cells.set(`${frames} ${speed}`, { input, cost });
    return h("td", {}, h("label", {}, input, cost));
  }

  /** Rows of "form.predict". */
  function showCosts(rows) {
    for (const [speed, label] of speeds) {
      const beside = rows.find((row) => row.speed === speed && row.distance);
      heads.get(speed)?.replaceChildren(label, ...(beside ? [h("small", { text: beside.distance, title: beside.fidelity })] : []));
    }
    for (const row of rows) {
      const cell = cells.get(`${row.frames} ${row.speed}`);
      if (!cell) continue;
      const parts = row.problem
        ? [h("b", { text: row.problem.startsWith("would not fit") ? "would not fit" : "not here" })]
        : [h("b", { text: row.seconds === null ? "time unknown" : `≈ ${formatSeconds(row.seconds)}` }), h("small", { text: row.note.includes("changes nothing") ? "as exact" : formatGib(row.bytes) })];
      cell.cost.replaceChildren(...parts);
      cell.cost.parentElement.title = row.problem || [row.note, row.fidelity].filter(Boolean).join("\n");
      cell.cost.classList.toggle("cogvx-same", Boolean(row.note));
    }
  }

  function value() {
    const [frames, speed] = (table.querySelector("input:checked")?.value ?? "").split(" ");
    return frames ? { frames: Number(frames), speed } : {};
  }

  function set({ frames, speed }) {
    if (frames === undefined && speed === undefined) return;
    const now = value();
    if (!cells.size) return;
    const wanted = frames ?? now.frames ?? counts[0];
    const key = `${wanted} ${speed ?? now.speed ?? "exact"}`;
    if (!cells.has(key) && Number.isInteger(wanted)) addRow(wanted); // the kernel says to what it is fitted
    const cell = cells.get(key);
    if (cell) cell.input.checked = true;
  }

  return { element, show, showCosts, get extra() { return extra?.frames; }, get value() { return value(); }, set value(form) { set(form); } };
}

/** The seed: at random for each video, or fixed; and how many videos. */
function FormSeed(app, rows, changed) {
  const random = h("input", { type: "checkbox", on: { change: onRandom } });
  const number = h("input", { type: "number", class: "cogvx-seed", name: "seed", min: 0, max: rows.seed.most, step: 1, "aria-label": "Seed", on: { input: changed } });
  const last = button("Last", { title: "the seed of the video that is shown", on: useLast });
  const roll = button("", { icon: "dice", title: "another seed", on: rollSeed });
  const copies = h("input", { type: "number", class: "cogvx-copies", min: 1, max: 100, step: 1, value: 1, "aria-label": "Videos" });
  const element = h("fieldset", { class: "cogvx-seed-box" }, h("legend", { text: "Seed" }),
    h("div", { class: "cogvx-seed-row" },
      h("label", { class: "cogvx-check", title: "each video gets another seed, which is kept with it" }, random, "Random"),
      number, roll, last,
      h("label", { class: "cogvx-copies-label", title: "videos at once: with a fixed seed it counts upwards" }, "Videos", copies)));

  function onRandom() {
    number.disabled = random.checked;
    changed();
  }

  function setSeed(seed) {
    random.checked = false;
    number.disabled = false;
    number.value = seed;
    changed();
  }

  async function rollSeed() {
    const { data } = await app.run("form.seed");
    if (data !== null) setSeed(data);
  }

  function useLast() {
    const shown = app.shown();
    if (shown) setSeed(shown.seed);
    else app.tell("There is no video yet.");
  }

  return {
    element,
    setSeed,
    get copies() { return Math.max(1, Math.min(100, Number(copies.value) || 1)); },
    get value() {
      return { seed: random.checked || number.value === "" ? -1 : Number(number.value) };
    },
    set value(form) {
      if ("seed" in form) {
        random.checked = form.seed === null || form.seed < 0;
        number.disabled = random.checked;
        if (!random.checked) number.value = form.seed;
      }
    },
  };
}
