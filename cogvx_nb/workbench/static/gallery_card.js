// A result in the gallery: its picture, which moves on hover or focus, and what is known of it.

const GALLERY_HOVER = 120; // milliseconds until a picture moves

/** A card that shows one row after another; `act` has what can be done with it. */
function GalleryCard(app, act) {
  const picture = h("img", { class: "cogvx-gallery-picture", alt: "", draggable: "false" });
  const none = h("span", { class: "cogvx-gallery-none", text: "no picture" });
  const prompt = h("span", { class: "cogvx-gallery-prompt" });
  const facts = h("small", { class: "cogvx-gallery-facts" });
  const spoken = h("span", { class: "cogvx-gallery-spoken" });
  const main = h("button", { type: "button", class: "cogvx-gallery-main", tabindex: -1 }, h("span", { class: "cogvx-gallery-screen" }, picture, none), prompt, facts, spoken);
  const check = h("input", { type: "checkbox", tabindex: -1, class: "cogvx-gallery-check" });
  const marks = h("span", { class: "cogvx-gallery-marks" });
  const count = h("span", { class: "cogvx-gallery-count" });
  const element = h("li", { class: "cogvx-gallery-card" }, main, check, marks, count);
  const card = { element, main, index: -1, row: null, shown: "" };
  let timer = 0;

  main.addEventListener("click", (event) => act.open(card, event));
  check.addEventListener("click", (event) => act.select(card, event.shiftKey));
  main.addEventListener("focus", () => act.focus(card));
  for (const event of ["pointerenter", "focus"]) main.addEventListener(event, () => {
    clearTimeout(timer);
    timer = setTimeout(move, GALLERY_HOVER);
  });
  for (const event of ["pointerleave", "blur"]) main.addEventListener(event, () => {
    clearTimeout(timer);
    if (card.moving) show("poster");
  });

  async function move() {
    if (card.row && !app.stillness()) show("clip");
  }

  async function show(kind) {
    const path = card.row?.path;
    if (!path) return;
    card.moving = kind === "clip";
    const url = await app.media[kind](path).catch(() => "");
    if (card.row?.path !== path || card.moving !== (kind === "clip")) return;
    if (url) picture.src = url;
    else if (kind === "clip") return;
    else picture.removeAttribute("src");
    none.hidden = Boolean(url);
    card.shown = path;
  }

  /** Ask for the picture, if it isn't there. */
  card.draw = () => {
    if (card.row && card.shown !== card.row.path) show("poster");
  };

  /** Show a row, or nothing yet where it is undefined. */
  card.set = (index, row, chosen, current) => {
    card.index = index;
    if (card.row?.path !== row?.path) {
      clearTimeout(timer);
      card.moving = false;
      card.shown = "";
      picture.removeAttribute("src");
      none.hidden = true;
    }
    const changed = card.row !== row;
    card.row = row ?? null;
    main.tabIndex = current ? 0 : -1;
    check.checked = chosen;
    element.classList.toggle("cogvx-chosen", chosen);
    element.classList.toggle("cogvx-gallery-waiting", !row);
    element.setAttribute("aria-posinset", index + 1);
    check.hidden = !row;
    if (!changed) return;
    setText(prompt, row?.prompt ?? "");
    setText(facts, row ? `seed ${row.seed} · ${formatAgo(row.made)}` : "");
    setText(marks, row ? `${"★".repeat(row.stars)}${row.note ? " ✎" : ""}` : "");
    marks.hidden = !marks.textContent;
    setText(count, row && row.size > 1 ? `${row.size}` : "");
    count.hidden = !count.textContent;
    element.classList.toggle("cogvx-gallery-stack", Boolean(row && row.size > 1));
    main.title = row ? galleryTitle(row) : "";
    setText(spoken, row ? gallerySpoken(row) : "still loading");
    check.setAttribute("aria-label", row ? `select: ${row.prompt}, seed ${row.seed}` : "select");
  };
  return card;
}

function galleryTitle(row) {
  const lines = [row.prompt];
  lines.push([`${row.frames} frames`, `${row.steps} steps`, row.model, row.speed, `${row.width} × ${row.height}`, `made ${formatAgo(row.made)} in ${formatSeconds(row.seconds)}`].filter(Boolean).join(" · "));
  if (row.finished) lines.push(`finished: ${row.finished}`);
  if (row.tags.length) lines.push(`tags: ${row.tags.join(", ")}`);
  if (row.note) lines.push(row.note);
  return lines.join("\n");
}

/** What is read out besides prompt and seed. */
function gallerySpoken(row) {
  if (row.size > 1) return `${row.size} results`;
  const stars = row.stars ? `, ${row.stars} ${row.stars === 1 ? "star" : "stars"}` : "";
  return `${row.frames} frames${stars}`;
}
