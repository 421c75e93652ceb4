// Parts of the view Compare: its controls, the table of settings, the tray of results to add.

/** Modes, the options of a mode, and the player. */
function CompareControls(state, { mode, draw, play, go }) {
  const name = `cogvx-mode-${Math.random().toString(36).slice(2)}`;
  const radios = COMPARE_MODES.map(([key, title]) =>
    h("label", { class: "cogvx-compare-mode" },
      h("input", { type: "radio", name, value: key, checked: key === state.mode, on: { change: () => mode(key) } }), h("span", { text: title })));
  const modes = h("div", { class: "cogvx-compare-modes", role: "radiogroup", "aria-label": "How they are compared" }, radios);

  const gain = h("input", { type: "range", min: 1, max: 32, step: 1, value: state.gain, on: { input: () => ((state.gain = Number(gain.value)), setText(gainText, `× ${gain.value}`), draw()) } });
  const gainText = h("output", { text: `× ${state.gain}` });
  const gainLabel = h("label", {}, h("span", { text: "Amplified" }), gain, gainText);
  const pick = (key) => h("select", { on: { change: (event) => ((state[key] = Number(event.target.value)), mode(state.mode)) } });
  const [one, two] = [pick("one"), pick("two")];
  const oneText = h("span");
  const oneLabel = h("label", {}, oneText, one);
  const twoLabel = h("label", {}, h("span", { text: "Right" }), two);
  const hint = h("span", { class: "cogvx-compare-hint" });
  const options = h("div", { class: "cogvx-compare-options" }, oneLabel, twoLabel, gainLabel, hint);

  const toggle = button("", { icon: "play", title: "Play (Space)", on: () => play() });
  const back = button("", { icon: "left", title: "One frame back (,)", on: () => (play(false), go(state.frame - 1)) });
  const on = button("", { icon: "right", title: "One frame on (.)", on: () => (play(false), go(state.frame + 1)) });
  const scrub = h("input", { type: "range", min: 0, max: 0, step: 1, value: 0, class: "cogvx-compare-scrub", "aria-label": "Frame", on: { input: () => (play(false), go(Number(scrub.value))) } });
  const where = h("output", { class: "cogvx-compare-where" });
  const player = h("div", { class: "cogvx-compare-player" }, toggle, back, on, scrub, where);

  /** Offer what the mode and the clips allow. */
  function build() {
    const { clips } = state;
    const few = clips.length < 2;
    for (const [select, chosen] of [[one, state.one], [two, state.two]]) {
      select.replaceChildren(...clips.map((clip, place) => h("option", { value: place, text: `${clip.letter} · seed ${clip.seed}`, selected: place === chosen })));
      select.value = String(chosen);
    }
    setText(oneText, state.mode === "wipe" ? "Left" : "Reference");
    oneLabel.hidden = few || !["wipe", "difference"].includes(state.mode);
    twoLabel.hidden = few || state.mode !== "wipe";
    gainLabel.hidden = few || state.mode !== "difference";
    const hints = { wipe: "drag the border, or use the arrow keys on it", blink: "B shows the next one", difference: "black where both are equal", beside: "" };
    setText(hint, few ? "" : hints[state.mode]);
    for (const control of [toggle, back, on, scrub]) control.disabled = few;
    for (const radio of modes.querySelectorAll("input")) radio.disabled = few;
  }

  function show(frame, count, fps) {
    scrub.max = count - 1;
    scrub.value = frame;
    const text = `frame ${frame + 1} of ${count} · ${(frame / fps).toFixed(2)} s`;
    scrub.setAttribute("aria-valuetext", text);
    setText(where, state.clips.length < 2 ? "" : text);
  }

  function showPlaying() {
    toggle.replaceChildren(icon(state.playing ? "pause" : "play"));
    const title = state.playing ? "Pause (Space)" : "Play (Space)";
    toggle.title = title;
    toggle.setAttribute("aria-label", title);
  }

  return { modes, options, player, build, show, showPlaying };
}

/** What differs, with the different words marked; everything else on demand. */
function CompareTable() {
  let shown = { clips: [], rows: [] };
  const all = h("input", { type: "checkbox", on: { change: () => show(shown.clips, shown.rows) } });
  const head = h("div", { class: "cogvx-compare-table-head" }, h("h3", { text: "What differs" }), h("label", {}, all, h("span", { text: "all settings and times" })));
  const body = h("div", { class: "cogvx-compare-table", tabindex: 0, role: "region", "aria-label": "Table of settings" });
  const element = h("section", { class: "cogvx-compare-settings", hidden: true }, head, body);

  function show(clips, rows) {
    shown = { clips, rows };
    element.hidden = clips.length < 2;
    const listed = rows.filter(([, kind]) => all.checked || kind === "differs");
    const columns = h("tr", {}, h("td"), clips.map((clip) => h("th", { scope: "col", text: clip.letter })));
    const lines = listed.map(([name, kind, cells]) =>
      h("tr", { class: `cogvx-compare-row-${kind}` }, h("th", { scope: "row", text: name }), cells.map((cell) => h("td", {}, words(cell)))));
    const none = h("p", { text: "Nothing but the times: their settings are the same." });
    body.replaceChildren(listed.length ? h("table", {}, h("thead", {}, columns), h("tbody", {}, lines)) : none);
  }

  const words = (cell) => h("bdi", {}, cell.flatMap(([text, marked], place) => [place ? " " : "", marked ? h("mark", { text }) : text]));

  return { element, show };
}

/** Results of the film roll, or those with some words in their prompts, to add with a click. */
function CompareTray(app, chosen, choose) {
  const search = h("input", { type: "search", placeholder: "words of the prompt", "aria-label": "Find results by words of their prompts" });
  const list = h("ul", { class: "cogvx-compare-list" });
  const note = h("small", { role: "status" });
  const element = h("section", { class: "cogvx-compare-tray", "aria-label": "Results to compare" },
    h("div", { class: "cogvx-compare-table-head" }, h("h3", { text: "Add from the film roll and the gallery" }), search, note), list);
  let rows = [];
  let asked = 0;

  search.addEventListener("input", debounce(find, 250));

  async function find() {
    const number = ++asked;
    const { data } = await app.run("compare.find", { text: search.value });
    if (number !== asked || !data) return;
    const roll = search.value.trim() ? [] : app.traits.roll;
    rows = [...new Map([...roll, ...data].map((row) => [row.path, row])).values()];
    setText(note, rows.length ? "" : search.value.trim() ? "No result has these words." : "There is no result yet.");
    render();
  }

  function render() {
    const paths = chosen();
    keepChildren(list, rows, (row) => row.path, make, (item, row) => {
      const place = paths.indexOf(row.path);
      const press = item.firstChild;
      press.setAttribute("aria-pressed", String(place >= 0));
      press.querySelector("b").textContent = place >= 0 && paths.length > 1 ? "ABCDEF"[place] : place >= 0 ? "✓" : "";
    });
    if (!rows.length) list.replaceChildren();
  }

  function make(row) {
    const picture = h("img", { alt: "", class: "cogvx-thumb" });
    app.media.poster(row.path).then((url) => url && (picture.src = url), () => {});
    const toggle = () => {
      const paths = chosen();
      choose(paths.includes(row.path) ? paths.filter((path) => path !== row.path) : [...paths, row.path]);
    };
    return h("li", {}, h("button", { type: "button", class: "cogvx-compare-thumb", title: row.prompt, "aria-label": `compare ${row.prompt}, seed ${row.seed}`, on: { click: toggle } }, picture, h("b", { class: "cogvx-badge" })));
  }

  return { element, show: () => (render(), find()) };
}
