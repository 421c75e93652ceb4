// The video that is looked at: the running one with its preview, or a chosen result.

/** The right column. */
function Stage(app) {
  const video = h("video", { class: "cogvx-video", loop: true, playsinline: true, controls: true, "aria-label": "Result" });
  video.muted = true;
  const preview = h("img", { class: "cogvx-preview", alt: "Preview of the running video" });
  const empty = h("p", { class: "cogvx-empty", text: "Describe a video on the left and press Generate." });
  const badge = h("span", { class: "cogvx-badge" });
  const screen = h("div", { class: "cogvx-screen" }, video, preview, empty, badge);
  const strip = h("img", { class: "cogvx-strip", alt: "" });
  const title = h("h2", { class: "cogvx-title" });
  const from = h("span", { class: "cogvx-froms" });
  const facts = h("ul", { class: "cogvx-facts" });
  const lines = h("ul", { class: "cogvx-lines" });
  const marks = h("div", { class: "cogvx-marks-place" });
  const actions = h("div", { class: "cogvx-actions", role: "toolbar", "aria-label": "Result" });
  const live = button("Show the running video", { class: "cogvx-live", icon: "play", on: () => app.follow() });
  live.hidden = true;
  const element = h("section", { class: "cogvx-stage", "aria-label": "Video" },
    screen, h("div", { class: "cogvx-strip-box" }, strip), h("div", { class: "cogvx-title-row" }, title, from, live), marks, facts, actions, lines);
  let row = null; // of the result that is shown; null while the running one is
  let unread = false; // whether its video could not be read
  let previewUrl = "";

  strip.addEventListener("click", (event) => {
    if (video.duration) video.currentTime = (event.offsetX / strip.clientWidth) * video.duration;
  });

  function mode(shown) {
    video.hidden = shown !== "video";
    preview.hidden = shown !== "preview";
    empty.hidden = shown !== "empty";
    badge.hidden = shown !== "preview";
    if (shown !== "video") video.pause();
  }

  async function show(result) {
    if (row?.path === result.path && !unread) return;
    row = result;
    unread = false;
    setText(title, result.prompt);
    describe(result);
    mode("video");
    strip.style.visibility = "hidden";
    video.removeAttribute("poster"); // of the one before
    let url = "";
    try {
      const [source, poster] = [app.media.video(result.path), app.media.poster(result.path)];
      poster.then((picture) => { if (row === result && picture) video.poster = picture; }, () => {});
      url = await source;
      if (row !== result) return;
      video.src = url;
      video.setAttribute("aria-label", `Video: ${result.prompt}`);
      if (!app.stillness()) await video.play().catch(() => {});
      const frames = await app.media.strip(result.path);
      if (row !== result) return;
      strip.src = frames;
      strip.alt = `Frames of the video, from the first to the last`;
      strip.style.visibility = "";
    } catch (error) {
      if (row !== result) return;
      unread = !url;
      if (unread) {
        video.removeAttribute("src"); // else the one before would play under this title
        video.load();
      }
      app.tell(error.message, "error");
    }
  }

  function describe(result) {
    facts.replaceChildren(...result.facts.map(([name, value]) =>
      h("li", {}, h("span", { class: "cogvx-fact-name", text: name }), name === "Seed" ? seedButton(value) : h("span", { text: value }))));
    lines.replaceChildren(
      h("li", { text: `made ${formatAgo(result.made)} in ${formatSeconds(result.seconds)}` }),
      ...result.lines.map((line) => h("li", { text: line })));
    marks.replaceChildren();
    from.replaceChildren(...InputsOf(app, result));
    marks.append(MarksEditor(app, result.path).element);
    actions.replaceChildren(
      button("Another seed", { icon: "dice", title: "the same with another seed; the form stays as it is", on: () => repeat({ seed: -1 }) }),
      button("Variations", { icon: "again", title: "four videos from noise near this one's", on: () => vary() }),
      button("Same but…", { icon: "more", title: "the same with one setting changed", on: () => sameBut() }),
      button("Start from", { icon: "first", title: "use a frame of it, or all of it, for the next video", on: () => useResult(app, result.path) }),
      button("Load", { icon: "load", title: "its settings into the form", on: () => app.load(result.path) }),
      button("Check", { icon: "check", title: "make it again and compare the frames", on: () => app.run("queue.reproduce", { path: result.path }) }),
      button("Finish…", { icon: "more", title: "more frames a second, or larger ones, as a new video", on: () => finishChoose(app, [result.path]) }),
      ShareMenu(app, result.path).element,
      button("", { icon: "trash", title: "move it to the trash", class: "cogvx-trash", on: () => app.trash(result.path) }));
  }

  function seedButton(seed) {
    return h("button", { type: "button", class: "cogvx-link cogvx-seed-of-result", title: "use this seed in the form", text: seed, on: { click: () => app.useSeed(Number(seed)) } });
  }

  const repeat = (changes, copies = 1) => app.run("queue.repeat", { path: row.path, changes, copies });

  function vary() {
    const strength = h("input", { type: "range", min: 0.05, max: 0.6, step: 0.05, value: 0.2, "aria-label": "Strength" });
    const shown = h("output", { text: strength.value });
    strength.addEventListener("input", () => setText(shown, strength.value));
    const path = row.path;
    const go = button("Make 4 variations", { primary: true, on: () => {
      dialog.close();
      app.run("queue.vary", { path, strength: Number(strength.value), copies: 4 });
    } });
    const dialog = app.dialog("Variations", h("div", { class: "cogvx-column" },
      h("label", { class: "cogvx-field" }, h("span", {}, "How far the noise is turned from this video's: ", shown), strength), go));
  }

  function sameBut() {
    const rows = app.traits.setup.fields;
    const choice = h("select", { "aria-label": "Setting" }, rows.map(({ name, label }) => h("option", { value: name, text: label })));
    const place = h("div");
    const path = row.path;
    const chosen = row;
    let control;
    const pick = () => {
      const field = rows.find(({ name }) => name === choice.value);
      control = FORM_CONTROLS[field.control](field, () => {});
      control.value = chosen.values[field.name] ?? field.default;
      place.replaceChildren(control.element);
    };
    choice.addEventListener("change", pick);
    choice.value = "steps";
    pick();
    const go = button("Make it", { primary: true, on: () => {
      dialog.close();
      app.run("queue.repeat", { path, changes: { [choice.value]: control.value } });
    } });
    const dialog = app.dialog("The same, but with another…", h("div", { class: "cogvx-column" }, choice, place, go));
  }

  /** Show the running job: its preview where there is one. */
  function follow(job) {
    row = null;
    setText(title, job ? job.prompt : "");
    facts.replaceChildren();
    lines.replaceChildren();
    actions.replaceChildren();
    from.replaceChildren();
    marks.replaceChildren();
    strip.style.visibility = "hidden";
    mode(job ? "preview" : "empty");
  }

  function showPreview(data) {
    if (previewUrl) URL.revokeObjectURL(previewUrl);
    previewUrl = data?.byteLength ? URL.createObjectURL(new Blob([data], { type: "image/webp" })) : "";
    if (previewUrl) preview.src = previewUrl;
    else preview.removeAttribute("src");
    preview.classList.toggle("cogvx-waiting", !previewUrl);
  }

  function showProgress(progress) {
    setText(badge, progress.steps ? `preview · step ${progress.step} of ${progress.steps}` : BAR_STAGES[progress.stage] ?? (progress.stage || "starting"));
    live.hidden = !(row && progress.id);
    if (!row) keepChildren(lines, progress.notes ?? [], (note) => note, (note) => h("li", { text: note }));
  }

  function toggle() {
    if (video.hidden) return;
    if (video.paused) video.play();
    else video.pause();
  }

  strip.style.visibility = "hidden";
  mode("empty");
  return { element, show, follow, showPreview, showProgress, toggle, get row() { return row; } };
}
