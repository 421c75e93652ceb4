// Keys of the page. They stay in the page: JupyterLab sees none of them.

const KEYS = [
  ["Ctrl+Enter", "generate: make this video next"],
  ["Shift+Enter", "add it to the end of the queue"],
  ["Esc", "cancel the running video; close what is open"],
  ["← →", "walk the film roll"],
  ["Space", "play or pause"],
  ["F", "a star for the shown video, or none"],
  ["R", "the same with another seed"],
  ["G, M", "to the gallery, and back"],
  ["/", "to the prompt"],
  ["Alt+↑ Alt+↓", "in the prompt: earlier prompts, and back"],
  ["arrows, Enter", "gallery: to another result, and show it"],
  ["0 … 5, F", "gallery: stars of the result or the chosen ones"],
  ["Space, Ctrl+A", "gallery: choose it; choose all"],
  ["Delete", "gallery: to the trash"],
  ["?", "this list"],
];

/** Handle keys below `root`. */
function bindKeys(root, app) {
  root.addEventListener("keydown", (event) => {
    if (!event.defaultPrevented) handle(event);
    event.stopPropagation();
  });
  for (const kind of ["keyup", "keypress"]) root.addEventListener(kind, (event) => event.stopPropagation());
  // A click beside the controls must not give the keyboard back to the notebook.
  root.addEventListener("pointerdown", (event) => event.stopPropagation());
  root.addEventListener("mousedown", (event) => event.stopPropagation());
  root.addEventListener("click", () => {
    if (!root.contains(document.activeElement)) root.focus({ preventScroll: true });
  });

  function handle(event) {
    const control = event.ctrlKey || event.metaKey;
    if (event.key === "Enter" && control) return act(event, () => app.submit());
    if (event.key === "Enter" && event.shiftKey) return act(event, () => app.submit({ first: false }));
    if (event.key === "Escape") {
      if (root.querySelector("dialog[open]")) return undefined; // the browser closes it
      return act(event, () => app.escape());
    }
    if (control || event.altKey || isTyping(document.activeElement)) return undefined;
    const inControl = document.activeElement?.matches?.("[role=tab], input, video, summary");
    const keys = {
      ArrowLeft: () => app.step(-1),
      ArrowRight: () => app.step(1),
      f: () => app.star(),
      r: () => app.another(),
      g: () => app.open("gallery"),
      m: () => app.open("make"),
      "/": () => app.focusPrompt(),
      "?": () => app.help(),
    };
    if (event.key === " " && !document.activeElement?.matches?.("button, input, summary, video, a"))
      return act(event, () => app.toggle());
    if (inControl && event.key.startsWith("Arrow")) return undefined;
    const found = keys[event.key] ?? keys[event.key.toLowerCase()];
    if (found && app.view() === "make") return act(event, found);
    if (found && ["g", "m", "?", "/"].includes(event.key.toLowerCase())) return act(event, found);
    return undefined;
  }

  function act(event, found) {
    event.preventDefault();
    found();
  }
}

/** The list of keys, as a table. */
function keysTable() {
  return h("table", { class: "cogvx-keys" }, h("tbody", {}, KEYS.map(([key, what]) =>
    h("tr", {}, h("th", { scope: "row" }, h("kbd", { text: key })), h("td", { text: what })))));
}
