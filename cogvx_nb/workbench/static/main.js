// The page: its parts, and what they ask each other for.

/** Show the page of a model in an element. */
function render({ model, el }) {
  const id = `cogvx-${Math.random().toString(36).slice(2)}`;
  const banner = h("div", { class: "cogvx-banner", role: "alert", hidden: true });
  const root = h("div", {
    class: "cogvx-page cogvx-theme",
    tabindex: -1,
    role: "region",
    "aria-label": "CogVideoX workbench",
    "data-lm-suppress-shortcuts": "true",
  });
  const link = Link(model, (silent) => {
    banner.hidden = !silent;
    setText(banner, silent ? "The kernel doesn't answer: it is busy in another cell, or has ended. Nothing is lost. If it has ended, run this cell again; the page goes on by itself where it was only busy." : "");
    if (!silent) parts.form.check(); // sends what couldn't be
  });
  const media = Media(link);
  const notices = Notices();
  const traits = Object.fromEntries(["setup", "form", "jobs", "progress", "roll", "ended"].map((name) => [name, model.get(name)]));
  const watchers = [];
  let view = "make";
  let following = true; // whether the running video and the newest result are shown as they come
  let newest = ""; // path of the newest result
  let runningId = "";

  const app = {
    id,
    traits,
    media,
    ask: link.ask,
    isSilent: link.isSilent,
    tell: notices.tell,
    view: () => view,
    stillness: () => matchMedia("(prefers-reduced-motion: reduce)").matches,
    watch(name, act) {
      const hear = () => act((traits[name] = model.get(name)));
      model.on(`change:${name}`, hear);
      watchers.push(() => model.off(`change:${name}`, hear));
      hear();
    },
    /** Ask for something and say what goes wrong. */
    async run(action, args = {}) {
      try {
        return await link.ask(action, args);
      } catch (error) {
        notices.tell(error.message, "error");
        return { data: null, buffers: [] };
      }
    },
    submit: (options) => parts.form.submit(options),
    cancel: () => traits.progress.id && app.run("queue.cancel", { id: traits.progress.id }),
    starting: (on) => parts.bar.starting(on, traits.progress, traits.jobs),
    shown: () => parts.stage.row ?? traits.roll[0],
    escape() {
      const popup = root.querySelector("[data-cogvx-popup]");
      if (popup) popup.dispatchEvent(new CustomEvent("cogvx-close"));
      else if (view !== "make") open("make");
      else app.cancel();
    },
    follow() {
      following = true;
      toStage();
      parts.roll.choose("");
      const { running } = traits.jobs;
      if (running || traits.jobs.waiting?.length || !traits.roll.length) parts.stage.follow(running);
    },
    async choose(path) {
      following = false;
      open("make");
      toStage();
      parts.roll.choose(path);
      const row = parts.roll.find(path) ?? (await app.run("result.row", { path })).data;
      if (row && parts.roll.chosen === path) parts.stage.show(row);
    },
    step: (places) => parts.roll.step(places),
    toggle: () => parts.stage.toggle(),
    another: () => parts.stage.row && app.run("queue.repeat", { path: parts.stage.row.path, changes: { seed: -1 } }),
    /** A star for the video that is shown, or none. */
    star() {
      const stars = [...root.querySelectorAll(".cogvx-stage .cogvx-star")];
      const given = stars.filter((one) => one.classList.contains("cogvx-star-on"));
      (given.at(-1) ?? stars[0])?.click();
      if (given.length > 1) app.tell(`Its ${given.length} stars are taken away.`, "info", () => given.at(-1).click());
    },
    useSeed(seed) {
      parts.form.setValue("seed", seed);
      app.tell(`The form has seed ${seed}.`);
    },
    load: (path) => app.change(() => app.run("form.load", { path })),
    /** Ask what changes the form, and say what it has; `more`: of an answer another button of the notice, [label, act]. */
    async change(question, more = () => null) {
      const { data, undo } = await parts.form.edits.ask(question).catch((error) => (app.tell(error.message, "error"), {}));
      if (!data) return;
      if (data.lora) parts.form.addLora(data.lora);
      open("make");
      app.tell(data.note || "Its settings are in the form.", "info", undo, "Undo", more(data));
    },
    /** Start from a part of a result. */
    async use(path, part) {
      await app.change(() => app.run("input.use", { path, part }));
      parts.form.element.scrollIntoView({ block: "nearest" });
    },
    /** Results are in the trash: one of them leaves the stage. */
    gone(paths) {
      const isShown = () => paths.includes(parts.stage.row?.path);
      if (!isShown()) return;
      app.follow();
      if (isShown() && newest) showNewest(newest); // nothing runs
    },
    async trash(path) {
      const { data } = await app.run("gallery.trash", { paths: [path] });
      if (!data) return;
      for (const problem of data.problems) app.tell(problem, "error");
      if (!data.done.length) return;
      app.gone([path]);
      app.tell("It is in the trash.", "info", () => app.run("gallery.restore", { paths: data.done }));
    },
    async download(path, type = "mp4") {
      try {
        const url = await media.video(path);
        h("a", { href: url, download: path.split("/").at(-1) ?? `video.${type}` }).click();
      } catch (error) {
        notices.tell(error.message, "error");
      }
    },
    async copy(text) {
      try {
        await navigator.clipboard.writeText(text);
        app.tell("Copied.");
      } catch {
        app.dialog("Copy this", h("pre", { text, tabindex: 0 }));
      }
    },
    open,
    focusPrompt() {
      open("make");
      parts.form.focus();
    },
    compare(paths) {
      open("compare");
      parts.views.compare?.show(paths);
    },
    async toggleBell() {
      parts.bar.showBell(await bell.toggle());
    },
    help: () => app.dialog("Keys", keysTable()),
    dialog(title, content) {
      const box = h("dialog", { class: "cogvx-dialog", "aria-label": title },
        h("div", { class: "cogvx-dialog-head" }, h("h2", { text: title }), button("", { icon: "close", title: "Close", on: () => box.close() })), content);
      box.addEventListener("close", () => box.remove());
      root.append(box);
      box.showModal();
      return box;
    },
  };

  const bell = Bell(app);
  const parts = { views: {} };
  parts.bar = Bar(app, open);
  parts.form = Form(app);
  parts.stage = Stage(app);
  parts.roll = Roll(app);
  const makers = { grid: GridPlanner, storyboard: Storyboard, gallery: Gallery, compare: Compare };
  const panels = Object.fromEntries(BAR_VIEWS.map(([name]) =>
    [name, h("div", { class: `cogvx-panel cogvx-panel-${name}`, id: `${id}-${name}`, role: "tabpanel", tabindex: name === "make" ? null : 0, "aria-labelledby": `${id}-${name}-tab` })]));
  panels.make.append(parts.form.element, parts.stage.element);
  root.append(parts.bar.element, h("div", { class: "cogvx-body" }, Object.values(panels)), parts.roll.element, notices.element, notices.spoken, banner);
  parts.bar.showBell(bell.on);
  el.append(root);

  function open(name) {
    view = name;
    if (makers[name] && !parts.views[name]) {
      parts.views[name] = makers[name](app);
      panels[name].append(parts.views[name].element);
    }
    const left = Object.entries(panels).some(([other, panel]) => other !== name && panel.contains(document.activeElement));
    for (const [other, panel] of Object.entries(panels)) panel.hidden = other !== name;
    if (left) root.focus({ preventScroll: true }); // else the notebook would get the next key
    parts.bar.showView(name);
    parts.views[name]?.open?.();
  }

  bindKeys(root, app);
  app.give = bindDrops(root, app);
  const opening = model.get("opening");
  root.classList.toggle("cogvx-alone", Boolean(opening.alone));
  open(opening.view ?? "make");
  parts.form.fill(traits.form);
  parts.form.edits.take({ form: traits.form, revision: model.get("revision") }, 0);
  app.watch("form", (form) => parts.form.edits.follow({ form, revision: model.get("revision") })); // other views edit it too
  app.watch("roll", (rows) => {
    parts.roll.set("roll", rows);
    const path = rows[0]?.path ?? "";
    if (following && path && path !== newest) showNewest(path);
    if (following && !path && !traits.jobs.running) parts.stage.follow(null); // the only one is in the trash
    if (newest && path && path !== newest) notices.say(`Done: ${rows[0].prompt}`);
    newest = path;
  });
  let ended = null; // ids of those that have been shown
  app.watch("ended", (rows) => {
    parts.roll.set("ended", rows);
    const checked = rows.filter((job) => ended && !ended.has(job.id) && job.again && job.state === "done" && job.notes.length);
    for (const job of checked) app.tell(job.notes.at(-1)); // what the comparison found
    ended = new Set(rows.map((job) => job.id));
  });
  app.watch("jobs", (jobs) => {
    parts.roll.set("jobs", jobs);
    parts.bar.showProgress(traits.progress, jobs);
    if (following && jobs.running && jobs.running.id !== runningId) {
      parts.roll.choose("");
      parts.stage.follow(jobs.running);
    }
    if (runningId && !jobs.running) setTimeout(rest, 500); // its result, if there is one, comes first
    if (runningId && !jobs.running && !jobs.waiting.length) bell.ring();
    runningId = jobs.running?.id ?? "";
  });
  app.watch("progress", (progress) => {
    parts.bar.showProgress(progress, traits.jobs);
    parts.stage.showProgress(progress);
    titleProgress(progress);
  });
  const showPreview = () => parts.stage.showPreview(model.get("preview"));
  model.on("change:preview", showPreview);
  showPreview();

  /** In one column the video is below the form: scroll to it. */
  function toStage() {
    const { make } = panels;
    if (make.scrollHeight > make.clientHeight) make.scrollTop = parts.stage.element.offsetTop;
  }

  /** Where a job ended without a result, show the newest one in its place. */
  function rest() {
    const { running, waiting } = traits.jobs;
    if (!following || running || waiting?.length || parts.stage.row) return;
    if (newest) showNewest(newest);
    else parts.stage.follow(null);
  }

  function showNewest(path) {
    parts.roll.choose(path);
    parts.stage.show(parts.roll.find(path));
  }

  if (opening.paths) app.compare(opening.paths);
  takeKeyboard(model, root, parts.form);
  return () => {
    for (const stop of watchers) stop();
    model.off("change:preview", showPreview);
    link.close();
    media.close();
    document.title = document.title.replace(/^\d+ % · /, "");
  };
}

/** Say the progress in the browser tab's title too. */
function titleProgress(progress) {
  const plain = document.title.replace(/^\d+ % · /, "");
  document.title = progress.id ? `${Math.round(100 * progress.share)} % · ${plain}` : plain;
}

/** After the cell has run: the page in view, and the keyboard in the prompt; once. */
function takeKeyboard(model, root, form) {
  if (!model.get("focus")) return;
  model.set("focus", false);
  model.save_changes();
  let tries = 0;
  const settle = () => {
    if (!root.isConnected && tries++ < 40) return setTimeout(settle, 50);
    root.scrollIntoView({ block: "start" });
    if (tries++ < 8 && !root.contains(document.activeElement)) form.focus();
    return tries < 12 ? setTimeout(settle, 100) : undefined;
  };
  const stop = () => (tries = 100);
  for (const event of ["wheel", "pointerdown", "keydown"]) addEventListener(event, stop, { once: true, capture: true });
  settle();
}

export default { render };
