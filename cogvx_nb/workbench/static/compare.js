// Compare: two to six results in step with one scrubber, and the table of what differs.

const COMPARE_MOST = 6;
const COMPARE_BLINK = 600; // milliseconds that each clip is shown
const COMPARE_REST = 30000; // milliseconds out of sight after which the frames are freed
const COMPARE_MODES = [
  ["beside", "Side by side"],
  ["wipe", "Wipe"],
  ["blink", "Blink"],
  ["difference", "Difference"],
];

/** The view Compare. */
function Compare(app) {
  const state = { paths: [], clips: [], rows: [], frame: 0, playing: false, mode: "beside", one: 0, two: 1, share: 0.5, gain: 4, blink: 0 };
  const frames = CompareFrames(app);
  const screen = CompareScreen(app, state, { choose: setPaths, draw });
  const tray = CompareTray(app, () => state.paths, setPaths);
  const controls = CompareControls(state, { mode: setMode, draw, play, go });
  const table = CompareTable();
  const status = h("p", { class: "cogvx-compare-status", role: "status" });
  const save = button("Save as one mp4", { icon: "share", on: saveAll });
  const clear = button("Clear", { icon: "close", on: () => setPaths([]) });
  const element = h("div", { class: "cogvx-compare", on: { keydown: keys } },
    h("div", { class: "cogvx-compare-main" },
      h("div", { class: "cogvx-compare-head" }, h("h2", { text: "Compare" }), controls.modes, h("span", { class: "cogvx-compare-gap" }), save, clear),
      controls.options, screen.element, controls.player, status, table.element),
    tray.element);

  // --- what is compared ---------------------------------------------------------------------------

  async function setPaths(paths) {
    state.paths = [...new Set(paths)].slice(0, COMPARE_MOST);
    if (paths.length > COMPARE_MOST) app.tell(`At most ${COMPARE_MOST} are compared at once.`);
    tray.show();
    if (state.paths.length < 2) return setClips([], []);
    const asked = state.paths.join("\n");
    try {
      const { data } = await app.ask("compare.open", { paths: state.paths });
      if (asked === state.paths.join("\n")) setClips(data.clips, data.rows);
    } catch (error) {
      if (asked !== state.paths.join("\n")) return;
      setClips([], []);
      setText(status, error.message);
    }
  }

  function setClips(clips, rows) {
    Object.assign(state, { clips, rows, one: 0, two: Math.min(1, clips.length - 1) });
    state.frame = Math.min(state.frame, comparePace(clips).count - 1);
    if (clips.length < 2) play(false);
    save.disabled = clips.length < 2;
    clear.disabled = !state.paths.length;
    screen.build();
    controls.build();
    table.show(clips, rows);
    say();
    frames.load(clips, () => (say(), draw()));
    draw();
  }

  function say() {
    const failed = state.clips.filter((clip) => frames.failed(clip));
    const waiting = state.clips.filter((clip) => !frames.ready(clip) && !frames.failed(clip));
    const notes = state.clips.filter((clip) => clip.note).map((clip) => `${clip.letter}: ${clip.note}`);
    const text = failed.length ? `${failed[0].letter}: ${frames.failed(failed[0])}` : notes.join(" ");
    const few = state.paths.length === 1 ? "Choose one more result below." : "Choose two to six results below.";
    setText(status, state.clips.length < 2 ? few : waiting.length ? `reading the frames of ${waiting.map((clip) => clip.letter).join(", ")}…` : text);
  }

  async function saveAll() {
    save.disabled = true;
    const { data } = await app.run("compare.save", { paths: state.paths });
    save.disabled = false;
    if (!data) return;
    app.tell(`It is saved as ${data.path}.`);
    app.download(data.path);
  }

  // --- in step ------------------------------------------------------------------------------------

  function draw() {
    const { fps, count } = comparePace(state.clips);
    const at = (clip) => frames.at(clip, state.frame / fps);
    screen.draw(at);
    controls.show(state.frame, count, fps);
  }

  function go(frame) {
    const { count } = comparePace(state.clips);
    state.frame = (frame + count) % count;
    draw();
  }

  let last = 0;
  function play(on = !state.playing) {
    state.playing = on && state.clips.length > 1;
    last = performance.now();
    controls.showPlaying();
    if (state.playing) requestAnimationFrame(tick);
  }

  function tick(now) {
    if (!state.playing || !element.isConnected) return;
    const { fps } = comparePace(state.clips);
    const passed = Math.floor(((now - last) * fps) / 1000);
    if (passed) {
      last += (passed * 1000) / fps;
      go(state.frame + passed);
    }
    requestAnimationFrame(tick);
  }

  let timer = 0;
  function blink() {
    if (state.mode !== "blink" || !element.isConnected || app.stillness()) return;
    if (state.clips.length > 1 && element.offsetParent) {
      state.blink += 1;
      draw();
    }
    timer = setTimeout(blink, COMPARE_BLINK);
  }

  function setMode(mode) {
    state.mode = mode;
    screen.build();
    controls.build();
    draw();
    clearTimeout(timer);
    timer = setTimeout(blink, COMPARE_BLINK);
  }

  function keys(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input[type=search]")) return;
    const typing = event.target.matches("input, select, [role=slider]");
    const acts = { ",": () => (play(false), go(state.frame - 1)), ".": () => (play(false), go(state.frame + 1)) };
    if (!typing && !event.target.closest(".cogvx-compare-tray"))
      Object.assign(acts, { ArrowLeft: acts[","], ArrowRight: acts["."] });
    if (!event.target.matches("button, input, select")) acts[" "] = () => play();
    if (state.mode === "blink") acts.b = () => ((state.blink += 1), draw());
    if (!acts[event.key] || state.clips.length < 2) return;
    event.preventDefault();
    acts[event.key]();
  }

  // Out of sight it rests, and after a while it gives the memory of its frames back.
  let rest = 0;
  new IntersectionObserver(([{ isIntersecting }]) => {
    clearTimeout(rest);
    if (isIntersecting) {
      tray.show();
      frames.load(state.clips, () => (say(), draw()));
    } else {
      play(false);
      rest = setTimeout(frames.free, COMPARE_REST);
    }
  }).observe(element);

  setClips([], []);
  return { element, show: setPaths, add: (path) => setPaths([...state.paths, path]), open: () => tray.show() };
}

/** The pictures of a mode, and what can be done with them. */
function CompareScreen(app, state, { choose, draw }) {
  const element = h("div", { class: "cogvx-compare-screen" });
  let canvases = [];
  let badge = null;
  let divider = null;

  function build() {
    canvases = [];
    badge = divider = null;
    element.className = `cogvx-compare-screen cogvx-compare-${state.mode}`;
    if (state.clips.length < 2) return element.replaceChildren();
    const makers = { wipe, blink, beside: () => state.clips.map(figure), difference };
    return element.replaceChildren(...makers[state.mode]());
  }

  function canvas(name) {
    const made = h("canvas", { role: "img", "aria-label": name, width: state.clips[0].width, height: state.clips[0].height });
    canvases.push(made);
    return made;
  }

  function name(clip) {
    return [h("b", { text: clip.letter }), h("span", { class: "cogvx-compare-prompt", text: clip.prompt, title: clip.prompt }), h("span", { class: "cogvx-compare-seed", text: `seed ${clip.seed}` })];
  }

  function figure(clip) {
    const without = () => choose(state.paths.filter((path) => path !== clip.path));
    return h("figure", {}, canvas(`${clip.letter}: ${clip.prompt}`),
      h("figcaption", {}, name(clip), InputsOf(app, clip),
        h("span", { class: "cogvx-compare-acts" },
          button("Finish…", { title: `finish ${clip.letter}: more frames a second, or larger ones, as a new video`, on: () => finishChoose(app, [clip.path]) }),
          button("", { icon: "load", title: `load the settings of ${clip.letter}`, on: () => app.load(clip.path) }),
          button("", { icon: "close", title: `take ${clip.letter} out`, on: without }))));
  }

  function difference() {
    const reference = state.clips[state.one];
    return state.clips.filter((clip) => clip !== reference).map((clip) =>
      h("figure", {}, canvas(`difference of ${clip.letter} and ${reference.letter}`), h("figcaption", {}, name(clip), h("span", { text: `against ${reference.letter}` }))));
  }

  function blink() {
    badge = h("b", { class: "cogvx-badge" });
    const next = button("Next", { icon: "right", title: "show the next one (B)", on: () => ((state.blink += 1), draw()) });
    return [h("figure", {}, h("div", { class: "cogvx-compare-over" }, canvas("the compared videos in turn"), badge), h("figcaption", {}, next))];
  }

  function wipe() {
    const [left, right] = [state.clips[state.one], state.clips[state.two]];
    divider = h("div", { class: "cogvx-compare-divider", role: "slider", tabindex: 0, "aria-label": `Divider: ${left.letter} on its left, ${right.letter} on its right`, "aria-valuemin": 0, "aria-valuemax": 100, on: { keydown: slide } });
    const over = h("div", { class: "cogvx-compare-over", on: { pointerdown: grab, pointermove: drag } },
      canvas(`${left.letter} and ${right.letter}`), divider, h("b", { class: "cogvx-badge", text: left.letter }), h("b", { class: "cogvx-badge cogvx-compare-right", text: right.letter }));
    return [h("figure", {}, over)];
  }

  function grab(event) {
    event.currentTarget.setPointerCapture(event.pointerId);
    divider.focus({ preventScroll: true });
    drag(event);
  }

  function drag(event) {
    if (!event.buttons) return;
    event.preventDefault();
    const box = event.currentTarget.getBoundingClientRect();
    move((event.clientX - box.left) / box.width);
  }

  function slide(event) {
    const places = { ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -100, End: 100 }[event.key];
    if (!places) return;
    event.preventDefault();
    event.stopPropagation();
    move(state.share + (event.shiftKey ? 10 : 1) * places / 100);
  }

  function move(share) {
    state.share = Math.max(0, Math.min(1, share));
    draw();
  }

  function drawAll(at) {
    if (!canvases.length) return;
    const pictures = state.clips.map(at);
    if (state.mode === "beside") canvases.forEach((one, place) => compareDraw(one, pictures[place]));
    if (state.mode === "blink") {
      const place = state.blink % state.clips.length;
      compareDraw(canvases[0], pictures[place], pictures[0] ?? undefined);
      setText(badge, state.clips[place].letter);
    }
    if (state.mode === "wipe") {
      compareWipe(canvases[0], pictures[state.one], pictures[state.two], state.share);
      divider.style.left = `${100 * state.share}%`;
      divider.setAttribute("aria-valuenow", Math.round(100 * state.share));
    }
    if (state.mode === "difference") {
      const others = pictures.filter((_, place) => place !== state.one);
      canvases.forEach((one, place) => compareSubtract(one, others[place], pictures[state.one], state.gain));
    }
  }

  return { element, build, draw: drawAll };
}
