// The gallery: everything in the outputs folder, however much. Only cards in sight are in the page.

const GALLERY_GAP = 16;
const GALLERY_CAPTION = 72; // pixels below a picture
const GALLERY_TALLEST = 12e6; // pixels; browsers cut higher elements off
const GALLERY_SELECTED = 1000; // results that can be chosen at once
const GALLERY_STILL = 90; // milliseconds of rest until pictures are asked for

function Gallery(app) {
  const selected = new Map(); // path → true, in the order of choosing
  let current = 0; // place that the keyboard is at
  let anchor = 0; // where a range begins
  let width = 0;

  const rows = GalleryRows(app, () => draw());
  const filters = GalleryFilters(app, () => search());
  const bulk = GalleryBulk(app, {
    chips: filters.chips,
    chosen: () => [...selected.keys()],
    clear: () => choose([], true),
    reload,
    trashed: () => filters.state.trashed,
    total: () => rows.total,
  });
  const size = h("input", { type: "range", min: 120, max: 360, step: 20, value: 200, class: "cogvx-gallery-size", "aria-label": "Size of the pictures", title: "size of the pictures" });
  filters.element.firstChild.append(size);
  const list = h("ul", { class: "cogvx-gallery-list", "aria-label": "Results" });
  const none = h("div", { class: "cogvx-gallery-empty", hidden: true });
  const scroller = h("div", { class: "cogvx-gallery-scroll" }, list, none);
  const element = h("section", { class: "cogvx-gallery", "aria-label": "Gallery" }, filters.element, bulk.element, scroller);

  const cards = new Map(); // place → card
  const spare = [];
  const act = { open: openCard, select: selectCard, focus: (card) => (current = card.index) };

  // --- layout -------------------------------------------------------------------------------------

  function layout() {
    const room = Math.max(scroller.clientWidth - 2 * GALLERY_GAP, 120);
    const columns = Math.max(1, Math.floor((room + GALLERY_GAP) / (Number(size.value) + GALLERY_GAP)));
    const wide = Math.floor((room - (columns - 1) * GALLERY_GAP) / columns);
    const tall = Math.round((wide * 2) / 3) + GALLERY_CAPTION;
    const lines = Math.ceil((rows.total ?? 0) / columns);
    const full = lines * (tall + GALLERY_GAP) + GALLERY_GAP;
    const height = Math.min(full, GALLERY_TALLEST);
    const view = scroller.clientHeight;
    const scale = full > height ? (full - view) / (height - view) : 1;
    return { columns, wide, tall, step: tall + GALLERY_GAP, height, view, scale };
  }

  let arriving = false; // whether the keyboard goes to a result as soon as there is one
  let frame = 0;
  function draw() {
    if (!frame) frame = requestAnimationFrame(() => {
      frame = 0;
      drawNow();
    });
  }

  function drawNow() {
    if (!scroller.clientWidth) return; // not in sight
    const { columns, wide, tall, step, height, view, scale } = layout();
    const above = scroller.scrollTop * scale; // of the whole list, were it this tall
    const shift = scroller.scrollTop - above;
    const first = Math.max(0, Math.floor((above - step) / step)) * columns;
    const last = Math.min((rows.total ?? 0) - 1, (Math.floor((above + view) / step) + 2) * columns - 1);
    list.style.height = `${height}px`;
    element.style.setProperty("--cogvx-card", `${wide}px`);
    const kept = (index) => (index >= first && index <= last) || (index === current && cards.get(index)?.main === document.activeElement && index < (rows.total ?? 0));
    for (const [index, card] of cards) if (!kept(index)) {
      cards.delete(index);
      spare.push(card);
    }
    rows.want(first, Math.max(last, 0));
    const places = new Set([...cards.keys()]);
    for (let index = first; index <= last; index++) places.add(index);
    for (const index of places) {
      const card = cards.get(index) ?? take(index);
      const row = rows.at(index);
      card.set(index, row, Boolean(row && selected.has(row.path)), index === current);
      const line = Math.floor(index / columns);
      const x = GALLERY_GAP + (index % columns) * (wide + GALLERY_GAP);
      card.element.style.transform = `translate(${x}px, ${GALLERY_GAP + line * step + shift}px)`;
      card.element.style.height = `${tall}px`;
      card.element.setAttribute("aria-setsize", rows.total ?? -1);
    }
    for (const card of spare) if (!card.element.hidden) {
      card.set(-1, undefined, false, false);
      card.element.hidden = true;
    }
    if (!cards.has(current) && cards.size) cards.get(Math.min(...cards.keys())).main.tabIndex = 0;
    showEmpty();
    bulk.show();
    drawPictures();
    if (!arriving || !cards.has(current)) return;
    arriving = false; // the first time, the results come after the view
    if (document.activeElement?.matches(".cogvx-page")) cards.get(current).main.focus({ preventScroll: true });
  }

  const drawPictures = debounce(() => {
    for (const card of cards.values()) card.draw();
    for (const card of spare) card.element.remove();
    putInOrder();
  }, GALLERY_STILL);

  /** Elements in the order of the results, for screen readers; the one with the keyboard stays where it is. */
  function putInOrder() {
    const fixed = [...cards.values()].find(({ main }) => main === document.activeElement);
    const order = [...cards.keys()].sort((a, b) => a - b).map((index) => cards.get(index));
    const place = fixed ? order.indexOf(fixed) : order.length;
    let right = true; // so far
    order.forEach(({ element: one }, at) => {
      right &&= list.children[at] === one;
      if (right || at === place) return;
      if (at < place) list.insertBefore(one, fixed?.element ?? null);
      else list.append(one);
    });
  }

  /** A card for a place; one that went out of sight, where there is one. */
  function take(index) {
    const card = spare.pop() ?? GalleryCard(app, act);
    if (!card.element.isConnected) list.append(card.element);
    card.element.hidden = false;
    cards.set(index, card);
    return card;
  }

  function showEmpty() {
    none.hidden = rows.total !== 0;
    if (none.hidden) return;
    const { trashed } = filters.state;
    const sentence = !filters.empty ? "No result is like that." : trashed ? "The trash is empty." : "There are no videos yet: describe one, and it will be here.";
    const todo = !filters.empty ? button("Show all results", { on: () => filters.clear() }) : trashed ? null : button("Make a video", { on: () => app.focusPrompt() });
    if (none.cogvxSentence === sentence) return;
    none.cogvxSentence = sentence;
    none.replaceChildren(h("p", { text: sentence }), ...(todo ? [todo] : []));
  }

  // --- what is shown ------------------------------------------------------------------------------

  function search() {
    selected.clear();
    current = anchor = 0;
    scroller.scrollTop = 0;
    rows.start({ ...filters.state });
    filters.refresh();
  }

  function reload() {
    rows.reload();
    filters.refresh();
    draw();
  }

  // --- choosing -----------------------------------------------------------------------------------

  function openCard(card, event) {
    const { row } = card;
    if (!row) return undefined;
    if (event.ctrlKey || event.metaKey || event.shiftKey || filters.state.trashed) return selectCard(card, event.shiftKey);
    const { group } = filters.state;
    if (group && row.size > 1) return filters.add({ column: group, test: "=", value: row[group] }, { group: "" });
    return app.choose(row.path);
  }

  async function selectCard(card, range) {
    const { row, index } = card;
    if (!row) return;
    if (range) {
      const [first, last] = [Math.min(anchor, index), Math.max(anchor, index)];
      return choose(await pathsBetween(first, last - first + 1));
    }
    anchor = index;
    if (selected.delete(row.path)) draw();
    else choose([row.path]);
  }

  /** Paths of the results at these places; none where another search is shown by then. */
  async function pathsBetween(offset, limit) {
    const { search: asked } = rows;
    const { data } = await app.run("gallery.select", { ...asked, offset, limit: Math.min(limit, GALLERY_SELECTED) });
    return rows.search === asked ? data?.paths ?? [] : [];
  }

  function choose(paths, alone = false) {
    if (alone) selected.clear();
    const room = GALLERY_SELECTED - selected.size;
    for (const path of paths.slice(0, room)) selected.set(path, true);
    draw();
  }

  async function chooseAll() {
    const paths = await pathsBetween(0, GALLERY_SELECTED);
    if (!paths.length) return;
    choose(paths, true);
    if (rows.total > GALLERY_SELECTED) app.tell(`The first ${GALLERY_SELECTED.toLocaleString("en")} of ${rows.total.toLocaleString("en")} are chosen.`);
  }

  // --- keys ---------------------------------------------------------------------------------------

  function moveTo(index) {
    if (!rows.total) return;
    current = Math.max(0, Math.min(index, rows.total - 1));
    const { columns, step, view, scale, tall } = layout();
    const top = Math.floor(current / columns) * step;
    const above = scroller.scrollTop * scale;
    if (top < above) scroller.scrollTop = top / scale;
    else if (top + tall + 2 * GALLERY_GAP > above + view) scroller.scrollTop = (top + tall + 2 * GALLERY_GAP - view) / scale;
    drawNow();
    cards.get(current)?.main.focus({ preventScroll: true });
  }

  function key(event) {
    const card = [...cards.values()].find(({ main }) => main === event.target);
    const control = event.ctrlKey || event.metaKey;
    if (control && event.key.toLowerCase() === "a" && !isTyping(event.target)) return done(event, chooseAll);
    if (event.key === "Escape" && selected.size) return done(event, () => choose([], true));
    if (!card || control || event.altKey) return undefined;
    const { columns, view, step } = layout();
    const page = Math.max(1, Math.floor(view / step)) * columns;
    const places = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, PageUp: -page, PageDown: page, Home: -Infinity, End: Infinity };
    if (event.key in places) return done(event, () => moveTo(card.index + places[event.key]));
    const paths = card.row ? (selected.has(card.row.path) ? [...selected.keys()] : [card.row.path]) : [];
    if (!paths.length) return undefined;
    if (event.key === " ") return done(event, () => selectCard(card, event.shiftKey));
    if (filters.state.trashed) return undefined;
    if (/^[0-5]$/.test(event.key)) return done(event, () => changeMarks(app, paths, { stars: Number(event.key) }));
    if (event.key.toLowerCase() === "f") return done(event, () => changeMarks(app, paths, { stars: card.row.stars ? 0 : 1 }));
    if (event.key === "Delete") return done(event, () => bulk.moveAway(paths));
    return undefined;
  }

  function done(event, work) {
    event.preventDefault();
    work();
  }

  element.addEventListener("keydown", key);
  scroller.addEventListener("scroll", draw, { passive: true });
  size.addEventListener("input", () => {
    const { columns, step, scale } = layout();
    const first = Math.floor((scroller.scrollTop * scale) / step) * columns;
    requestAnimationFrame(() => {
      const now = layout();
      scroller.scrollTop = (Math.floor(first / now.columns) * now.step) / now.scale;
      drawNow();
    });
  });
  new ResizeObserver(() => {
    if (scroller.clientWidth !== width || scroller.clientWidth) draw();
    width = scroller.clientWidth;
  }).observe(scroller);
  marksListeners.add((row) => {
    rows.update(row);
    filters.hear(row);
  });
  app.watch("roll", () => rows.total !== null && app.view() === "gallery" && reload());

  return {
    element,
    /** Called when the gallery comes into view. */
    open() {
      if (rows.total === null) search();
      else reload();
      arriving = true;
      drawNow();
    },
    show() {
      this.open();
    },
  };
}
