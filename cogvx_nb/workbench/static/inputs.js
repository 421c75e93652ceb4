// What a video starts from: pictures and a clip, each a file that is dropped, chosen, pasted or named.

const INPUT_KEPT = /^inputs\/[0-9a-f]{64}\./; // a file that the page has taken over
const INPUT_WORDS = { image: "the first frame", last_image: "the last frame", video: "a clip to change or to follow" };

/** The part "Start from" of the form: a line where nothing is given. */
function FormInputs(app, changed) {
  const rows = app.traits.setup.fields.filter((row) => row.section === "input");
  const slots = rows.filter((row) => row.media).map((row) => InputSlot(app, row, onFile));
  const tuning = rows.filter((row) => !row.media && row.control !== "loras").map((row) => ({ row, control: FORM_CONTROLS[row.control](row, changed) }));
  const adders = slots.map((slot) => button(slot.row.label, { icon: "add", class: "cogvx-input-add", title: `start from ${INPUT_WORDS[slot.row.name] ?? slot.row.help}`, on: () => slot.open() }));
  const tuned = h("div", { class: "cogvx-controls cogvx-input-tuning" }, tuning.map(({ control }) => control.element));
  const line = h("div", { class: "cogvx-input-line" }, h("span", { class: "cogvx-input-title", text: "Start from" }), adders);
  const element = h("div", { class: "cogvx-inputs", role: "group", "aria-label": "Start from" }, line, slots.map((slot) => slot.element), tuned);
  // What another checkpoint here takes is offered too: it is chosen then.
  const takes = new Set(app.traits.setup.models.flatMap((model) => model.takes));

  function onFile() {
    show();
    changed();
  }

  const isGiven = (name) => slots.some((slot) => slot.row.name === name && slot.value);

  /** Show what is given, and what can be. */
  function show() {
    slots.forEach((slot, place) => {
      const { name } = slot.row;
      slot.element.hidden = !(slot.value || slot.opened);
      adders[place].hidden = !slot.element.hidden || !takes.has(name);
    });
    line.hidden = adders.every((adder) => adder.hidden);
    for (const { row, control } of tuning) control.element.hidden = !row.tunes.some(isGiven);
    tuned.hidden = tuning.every(({ control }) => control.element.hidden);
  }

  show();
  return {
    element,
    isGiven,
    /** Draw what is given as it is fitted; `values` are those of the whole form, which the kernel has. */
    preview(values) {
      const { model, frames, height, width, allow_untrained_size: free, fit, video_start: start, image } = values;
      for (const slot of slots) slot.preview(JSON.stringify([model, frames, height, width, free, fit, start, image]));
    },
    get value() {
      const given = Object.fromEntries(slots.map((slot) => [slot.row.name, slot.value]));
      return { ...given, ...Object.fromEntries(tuning.map(({ row, control }) => [row.name, control.value])) };
    },
    set value(form) {
      for (const slot of slots) if (slot.row.name in form) slot.value = form[slot.row.name];
      for (const { row, control } of tuning) if (row.name in form) control.value = form[row.name];
      show();
    },
  };
}

/** A picture or a clip: its preview, or the ways to give one. */
function InputSlot(app, row, changed) {
  const { name, label } = row;
  const kind = row.media;
  const picture = h("img", { class: "cogvx-input-picture", alt: "" });
  const empty = h("span", { class: "cogvx-input-empty", text: `drop a ${kind} here` });
  const frame = h("div", { class: "cogvx-input-frame" }, picture, empty);
  const title = h("b", { class: "cogvx-input-name" });
  const facts = h("small", { class: "cogvx-input-facts", role: "status" });
  const path = h("input", { type: "text", name, class: "cogvx-input-path", placeholder: "or its path", "aria-label": `${label}: path of a file`, spellcheck: "false", on: { input: onPath } });
  const file = h("input", { type: "file", accept: kind === "clip" ? "video/*,image/gif,image/webp" : "image/*", tabindex: -1, "aria-label": `${label}: a file`, hidden: true, on: { change: onFile } });
  const choose = button("Choose a file…", { class: "cogvx-input-choose", on: () => file.click() });
  const remove = button("", { icon: "close", class: "cogvx-input-remove", title: `without ${label.toLowerCase()}`, on: clear });
  const element = h("div", { class: "cogvx-input", role: "group", "aria-label": label, hidden: true },
    frame, h("div", { class: "cogvx-input-about" },
      h("div", { class: "cogvx-input-head" }, h("span", { class: "cogvx-input-label", text: label }), title, remove),
      facts, h("div", { class: "cogvx-input-ways" }, choose, path, file)));
  element.dataset.field = name; // where a file is dropped, see `bindDrops`
  let kept = ""; // of a file that the page has taken over
  let opened = false;
  let shown = ""; // what the preview shows
  let url = "";

  function onPath() {
    kept = "";
    opened = true; // also where nothing is left of it
    changed();
  }

  function onFile() {
    if (file.files[0]) app.give(file.files[0], name);
    file.value = "";
  }

  function clear() {
    opened = false;
    set("");
    changed();
  }

  function set(value) {
    kept = INPUT_KEPT.test(value ?? "") ? value : "";
    path.value = kept ? "" : value ?? "";
    if (!value) draw(null);
  }

  /** Show an answer of "input.preview", or nothing. */
  function draw(data, bytes) {
    if (url) URL.revokeObjectURL(url);
    url = bytes?.byteLength ? URL.createObjectURL(new Blob([bytes], { type: "image/webp" })) : "";
    picture.hidden = !url;
    empty.hidden = Boolean(url);
    if (url) picture.src = url;
    picture.alt = data ? `${label}: ${data.name}, as it is fitted` : "";
    setText(title, data?.name ?? "");
    title.title = data?.name ?? "";
    setText(facts, data ? data.facts.join(" · ") : "");
    path.hidden = Boolean(kept);
    if (!data) shown = "";
  }

  async function preview(key) {
    const value = kept || path.value.trim();
    const wanted = `${value} ${key}`;
    if (!value || wanted === shown) return;
    shown = wanted;
    path.hidden = Boolean(kept);
    try {
      const { data, buffers } = await app.ask("input.preview", { field: name });
      if (shown === wanted) draw(data, buffers[0]);
    } catch (error) {
      if (shown !== wanted) return;
      draw(null);
      if (!error.lost) shown = wanted; // the form says what is wrong; what was lost is asked for again
    }
  }

  draw(null);
  return {
    row,
    element,
    preview,
    open() {
      opened = true;
      changed();
      choose.focus();
    },
    get opened() { return opened; },
    get value() { return kept || path.value.trim(); },
    set value(value) {
      if (value === (kept || path.value.trim())) return;
      opened = false;
      set(value);
    },
  };
}

/** The pictures and clips that a result was made from: small, with their names. */
function InputsOf(app, result) {
  return (result.inputs ?? []).map(([field, label, name]) => {
    const picture = h("img", { class: "cogvx-from-picture", alt: `${label} that it was made from: ${name}` });
    picture.style.visibility = "hidden";
    const show = (url) => {
      if (!url) return;
      picture.src = url;
      picture.style.visibility = "";
    };
    app.media.input(result.path, field).then(show, () => {});
    return h("span", { class: "cogvx-from", title: `${label}: ${name}` }, picture, h("span", { class: "cogvx-from-name", text: `from ${name}` }));
  });
}

/** Ask what of a result the next video is to start from. */
function useResult(app, path) {
  const use = (part) => {
    box.close();
    app.use(path, part);
  };
  const choice = (text, part, title) => button(text, { class: "cogvx-share-format", title, on: () => use(part) });
  const box = app.dialog("Start from this video", h("div", { class: "cogvx-column" },
    choice("Use last frame", "last frame", "the next video begins where this one ends"),
    choice("Use first frame", "first frame", "the next video begins as this one does"),
    choice("Use this clip", "clip", "the next video changes this one, or follows it")));
}
