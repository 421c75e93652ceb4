// The bar on top, always in sight: views, progress, Cancel and Generate; and the notices.

const BAR_VIEWS = [["make", "Make"], ["grid", "Grid"], ["storyboard", "Storyboard"], ["gallery", "Gallery"], ["compare", "Compare"]];

/** The bar; the page's views are its tabs. */
function Bar(app, open) {
  const tabs = BAR_VIEWS.map(([view, title]) =>
    h("button", { type: "button", role: "tab", class: "cogvx-tab", id: `${app.id}-${view}-tab`, "aria-controls": `${app.id}-${view}`, "data-title": title, text: title, on: { click: () => open(view) } }));
  const list = h("div", { class: "cogvx-tabs", role: "tablist", "aria-label": "Views", on: { keydown: walk } }, tabs);
  const fill = h("div", { class: "cogvx-fill" });
  const track = h("div", { class: "cogvx-track", role: "progressbar", "aria-label": "Progress", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": 0 }, fill);
  const text = h("span", { class: "cogvx-stage-text", text: "ready" });
  const queue = h("span", { class: "cogvx-queue-text" });
  const pause = button("", { icon: "pause", class: "cogvx-pause", title: "pause the queue after the running video", on: () => app.run("queue.pause", { on: !paused }) });
  const cancel = button("Cancel", { icon: "stop", class: "cogvx-cancel", title: "stop the running video (Esc)", on: () => app.cancel() });
  const add = button("Add", { icon: "add", class: "cogvx-add", title: "put it at the end of the queue (Shift+Enter)", on: () => app.submit({ first: false }) });
  const generate = button("Generate", { icon: "play", primary: true, class: "cogvx-generate", title: "make this video next (Ctrl+Enter)", on: () => app.submit() });
  const bell = button("", { icon: "bell", class: "cogvx-bell", title: "say when the queue is done", on: () => app.toggleBell() });
  const help = button("", { icon: "help", title: "keys (?)", on: () => app.help() });
  cancel.disabled = true;
  const element = h("div", { class: "cogvx-bar" }, list,
    h("div", { class: "cogvx-progress" }, h("div", { class: "cogvx-progress-text" }, text, queue), track), bell, help, pause, cancel, add, generate);

  function walk(event) {
    const places = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!places) return;
    const next = tabs[(tabs.indexOf(document.activeElement) + places + tabs.length) % tabs.length];
    next.focus();
    next.click();
    event.preventDefault();
    event.stopPropagation();
  }

  function showView(view) {
    BAR_VIEWS.forEach(([name], place) => {
      tabs[place].setAttribute("aria-selected", String(name === view));
      tabs[place].tabIndex = name === view ? 0 : -1;
    });
  }

  function showProgress(progress, jobs) {
    const percent = Math.round(100 * (progress.share ?? 0));
    const stage = progress.id ? BAR_STAGES[progress.stage] ?? progress.stage : starting ? "starting" : "ready";
    const left = progress.id && progress.seconds_left ? ` · ${formatSeconds(progress.seconds_left)} left` : "";
    const step = progress.steps ? ` ${progress.step}/${progress.steps}` : "";
    setText(text, progress.id ? `${percent} % · ${stage}${step}${left}` : stage);
    const waiting = jobs.waiting?.length ?? 0;
    const total = jobs.seconds && !jobs.paused ? ` · ≈ ${formatSeconds(jobs.seconds)}` : "";
    paused = Boolean(jobs.paused);
    pause.setAttribute("aria-pressed", String(paused));
    const state = paused ? "paused · " : "";
    setText(queue, state + (waiting ? `${waiting} waiting${total}` : ""));
    queue.title = total ? `${queue.textContent} in all` : queue.textContent;
    text.title = text.textContent;
    fill.style.transform = `scaleX(${progress.share ?? 0})`;
    track.setAttribute("aria-valuenow", percent);
    track.setAttribute("aria-valuetext", text.textContent);
    track.classList.toggle("cogvx-busy", Boolean(progress.id || starting) && !percent);
    cancel.disabled = !progress.id;
  }

  let starting = false;
  let paused = false;
  return {
    element,
    showView,
    showProgress,
    showBell: (on) => bell.setAttribute("aria-pressed", String(on)),
    starting(on, progress, jobs) {
      starting = on;
      generate.classList.toggle("cogvx-pressed", on);
      showProgress(progress, jobs);
    },
  };
}

const BAR_STAGES = {
  load: "loading",
  text: "encoding text",
  compile: "compiling",
  denoise: "denoising",
  finish: "finishing",
  decode: "decoding",
  write: "writing",
};

/** Notices over the page: they move nothing, and a screen reader says them. */
function Notices() {
  const element = h("div", { class: "cogvx-notices", role: "status", "aria-live": "polite" });
  const spoken = h("p", { class: "cogvx-hidden", "aria-live": "polite" });

  /** `undo`: what the button of the notice does; `label`: what it says; `more`: of another button, [label, act]. */
  function tell(sentence, kind = "info", undo = null, label = "Undo", more = null) {
    const close = () => notice.remove();
    const notice = h("div", { class: `cogvx-notice cogvx-notice-${kind}` },
      h("span", { text: sentence }),
      undo ? button(label, { icon: label === "Undo" ? "undo" : null, on: () => { close(); undo(); } }) : null,
      more ? button(more[0], { on: () => { close(); more[1](); } }) : null,
      button("", { icon: "close", title: "Dismiss", on: close }));
    element.append(notice);
    while (element.children.length > 4) element.firstChild.remove();
    setTimeout(close, kind === "error" || undo ? 20000 : 6000);
  }

  return { element, spoken, tell, say: (sentence) => setText(spoken, sentence) };
}

/** Whether to say outside of the page when the queue is done: by a notification and a sound. */
function Bell(app) {
  const key = "cogvx-bell";
  let on = localStorage.getItem(key) === "on" && globalThis.Notification?.permission !== "denied";

  async function toggle() {
    on = !on;
    if (on && globalThis.Notification && Notification.permission === "default") await Notification.requestPermission();
    localStorage.setItem(key, on ? "on" : "off");
    app.tell(on ? "When the queue is done there is a sound, and a notification if the browser allows it." : "Nothing is said any more when the queue is done.");
    return on;
  }

  function ring() {
    if (!on) return;
    if (document.hidden && globalThis.Notification?.permission === "granted") new Notification("CogVideoX: the queue is done");
    const audio = new AudioContext();
    const [tone, volume] = [audio.createOscillator(), audio.createGain()];
    volume.gain.setValueAtTime(0.1, audio.currentTime);
    volume.gain.exponentialRampToValueAtTime(0.001, audio.currentTime + 0.6);
    tone.connect(volume).connect(audio.destination);
    tone.start();
    tone.stop(audio.currentTime + 0.6);
    tone.onended = () => audio.close();
  }

  return { toggle, ring, get on() { return on; } };
}
