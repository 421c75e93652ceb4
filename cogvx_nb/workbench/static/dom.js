// Elements, icons and formats that all parts of the page use.

/** An element: `class`, `text`, `style`, `on` (listeners by event) and attributes by name. */
function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") element.className = value;
    else if (name === "text") element.textContent = value;
    else if (name === "style") Object.assign(element.style, value);
    else if (name === "on")
      for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const ICONS = {
  play: "M7 5v14l12-7z",
  pause: "M6 5h4v14H6zM14 5h4v14h-4z",
  stop: "M6 6h12v12H6z",
  close: "M6.4 5 5 6.4 10.6 12 5 17.6 6.4 19 12 13.4 17.6 19 19 17.6 13.4 12 19 6.4 17.6 5 12 10.6z",
  add: "M11 5h2v6h6v2h-6v6h-2v-6H5v-2h6z",
  dice: "M5 3h14a2 2 0 0 1 2 2v14a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2V5a2 2 0 0 1 2-2zm3 3.5a1.5 1.5 0 1 0 0 3 1.5 1.5 0 0 0 0-3zm8 0a1.5 1.5 0 1 0 0 3 1.5 1.5 0 0 0 0-3zm-4 4a1.5 1.5 0 1 0 0 3 1.5 1.5 0 0 0 0-3zm-4 4a1.5 1.5 0 1 0 0 3 1.5 1.5 0 0 0 0-3zm8 0a1.5 1.5 0 1 0 0 3 1.5 1.5 0 0 0 0-3z",
  again: "M12 5V1L7 6l5 5V7a5 5 0 1 1-5 5H5a7 7 0 1 0 7-7z",
  load: "M4 5h10v2H6v10h8v2H4zM20 12l-5-5v3.500H9v3h6V17z",
  trash: "M9 3h6l1 2h4v2H4V5h4zM6 8h12l-1 13H7z",
  star: "m12 3 2.700 5.800 6.300.700-4.700 4.300 1.300 6.200L12 16.900 6.400 20l1.300-6.200L3 9.500l6.300-.700z",
  share: "M12 3l5 5h-4v7h-2V8H7zM5 14h2v5h10v-5h2v7H5z",
  first: "M5 5h14v2H5zm7 3 6 6-1.500 1.500L13 12v8h-2v-8l-3.500 3.500L6 14z",
  left: "M15 5 8 12l7 7 1.500-1.500L11 12l5.500-5.500z",
  right: "M9 5l7 7-7 7-1.500-1.500L13 12 7.500 6.500z",
  down: "M12 16 5 9l1.500-1.500L12 13l5.500-5.500L19 9z",
  check: "M9.500 17.500 4 12l1.500-1.500 4 4 9-9L20 7z",
  help: "M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20zm1 15h-2v-2h2zm1.800-6.500c-.900.900-1.800 1.200-1.800 3h-2c0-2.600 1.200-3.300 2.100-4.200A1.500 1.500 0 1 0 10.500 8h-2a3.500 3.500 0 1 1 6.300 2.500z",
  bell: "M12 2a2 2 0 0 0-2 2v.500C7.100 5.300 5 7.900 5 11v5l-2 2v1h18v-1l-2-2v-5c0-3.100-2.100-5.700-5-6.500V4a2 2 0 0 0-2-2zm-2 18a2 2 0 0 0 4 0z",
  copy: "M8 3h11v13H8zM5 7h2v11h9v2H5z",
  compare: "M4 5h7v14H4zm9 0h7v14h-7zm2 2v10h3V7z",
  search: "M10 3a7 7 0 1 0 4.300 12.500l5 5 1.400-1.400-5-5A7 7 0 0 0 10 3zm0 2a5 5 0 1 1 0 10 5 5 0 0 1 0-10z",
  menu: "M4 6h16v2H4zm0 5h16v2H4zm0 5h16v2H4z",
  more: "M5 10a2 2 0 1 0 0 4 2 2 0 0 0 0-4zm7 0a2 2 0 1 0 0 4 2 2 0 0 0 0-4zm7 0a2 2 0 1 0 0 4 2 2 0 0 0 0-4z",
  undo: "M8 5 3 10l5 5v-4h6a3 3 0 0 1 0 6h-3v2h3a5 5 0 0 0 0-10H8z",
};

/** An inline picture for a button; it has no name of its own. */
function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  for (const [key, value] of Object.entries({ viewBox: "0 0 24 24", "aria-hidden": "true" }))
    svg.setAttribute(key, value);
  svg.classList.add("cogvx-icon");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", ICONS[name] ?? "");
  svg.append(path);
  return svg;
}

/** A button; one with an icon only takes its name from `title`. */
function button(label, options = {}) {
  const { icon: picture, title, primary, on, class: more = "" } = options;
  const element = h(
    "button",
    {
      type: "button",
      class: `cogvx-button ${primary ? "cogvx-primary" : ""} ${label || !picture ? "" : "cogvx-icon-only"} ${more}`,
      title,
      "aria-label": label ? null : title,
    },
    picture ? icon(picture) : null,
    label || !picture ? h("span", { text: label }) : null,
  );
  if (on) element.addEventListener("click", on);
  return element;
}

/** Make a container's children those of `rows`, reusing the elements of rows that stay. */
function keepChildren(container, rows, keyOf, make, update = () => {}) {
  const known = (container.cogvxKeys ??= new Map());
  const keys = rows.map(keyOf);
  for (const [key, element] of known)
    if (!keys.includes(key)) {
      element.remove();
      known.delete(key);
    }
  rows.forEach((row, place) => {
    let element = known.get(keys[place]);
    if (!element) known.set(keys[place], (element = make(row)));
    update(element, row);
    if (container.children[place] !== element)
      container.insertBefore(element, container.children[place] ?? null);
  });
}

/** Set a text only where it changes, so that a selection in it stays. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Say that a control has what can't be used, and which element explains it; without one it is well. */
function setInvalid(control, why = null) {
  const attributes = { "aria-invalid": "true", "aria-errormessage": why?.id };
  for (const [name, value] of Object.entries(attributes)) {
    if (why) control.setAttribute(name, value);
    else control.removeAttribute(name);
  }
}

function formatSeconds(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 1) return "1 s";
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function formatGib(bytes) {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

/** How long ago a time in ISO 8601 was, in words. */
function formatAgo(iso) {
  const seconds = (Date.now() - Date.parse(iso)) / 1000;
  if (!(seconds >= 0)) return "";
  if (seconds < 60) return "just now";
  if (seconds < 3600) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.round(seconds / 3600)} h ago`;
  const days = Math.round(seconds / 86400);
  return days === 1 ? "yesterday" : `${days} days ago`;
}

/** Call `act` once nothing has asked for it for so many milliseconds. */
function debounce(act, milliseconds) {
  let timer = 0;
  const later = (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => act(...values), milliseconds);
  };
  return Object.assign(later, { cancel: () => clearTimeout(timer) });
}

/** Whether keys are text in the element that has the keyboard. */
function isTyping(element) {
  return Boolean(
    element?.matches?.("textarea, select, input:not([type=checkbox], [type=radio], [type=button])"),
  );
}
