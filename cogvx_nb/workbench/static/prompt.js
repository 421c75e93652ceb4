// A prompt: a text whose tokens are coloured as the model reads them, with what helps to write it.

const PROMPT_PATIENCE = 4000; // milliseconds until a kernel that hasn't answered is asked again

/**
 * A prompt or a negative prompt.
 *
 * Returns {element, input, value, focus(), replace(text), submitted(), onInput}: setting `value`
 * shows a text; `replace` does it as if it were typed, so that Ctrl+Z takes it back; `onInput` is
 * called at each change of the user's.
 */
function PromptField(app, row) {
  const fields = (app.promptFields ??= {});
  const main = row.name === "prompt";
  const id = `${app.id}-${row.name}`;
  const tokens = h("div", { class: "cogvx-prompt-tokens", "aria-hidden": "true" });
  const input = h("textarea", {
    id,
    name: row.name,
    class: `cogvx-prompt-input cogvx-${row.name.replaceAll("_", "-")}`,
    rows: main ? 3 : 1,
    spellcheck: "false",
    autocomplete: "off",
    title: row.help,
    "aria-describedby": `${id}-count`,
    on: { input: typed, scroll: follow, keydown: onKey },
  });
  const count = h("span", { class: "cogvx-tokens", id: `${id}-count` });
  const fill = h("div", { class: "cogvx-meter-fill" });
  const near = h("div", { class: "cogvx-near", role: "group", "aria-label": "Words that the model may know instead" });
  const history = main ? PromptHistory(app, fields) : null;
  const styles = main ? PromptStyles(app, fields) : null;
  const words = main ? PromptWords(app, fields) : null;
  const element = h("div", { class: "cogvx-prompt-field" },
    h("div", { class: "cogvx-prompt-head" }, h("label", { for: id, text: row.label }),
      main ? h("div", { class: "cogvx-prompt-menus" }, history.element, styles.element) : null),
    h("div", { class: "cogvx-prompt-box" }, tokens, input),
    h("div", { class: "cogvx-prompt-foot" }, near,
      h("div", { class: "cogvx-meter", "aria-hidden": "true" }, fill), count),
    words?.element);

  let shown = ""; // the text that `spans` are of
  let spans = []; // [start, end, kind, nearest known word]
  let asked = 0; // when the question under way was asked; 0: none is
  let latest = 0;

  new ResizeObserver(follow).observe(input);

  function typed() {
    field.onInput?.();
    read();
  }

  /** Ask how the text is read: at once, one question at a time, and only the last answer counts. */
  async function read() {
    const number = ++latest;
    spans = promptShift(spans, shown, input.value);
    shown = input.value;
    draw();
    if (Date.now() - asked < PROMPT_PATIENCE) return;
    const since = (asked = Date.now());
    try {
      const text = shown;
      const { data } = await app.ask("prompt.read", { text, field: row.name });
      if (text === input.value) show(data);
    } catch (error) {
      setText(count, "");
      if (number === latest) app.tell(error.message, "error");
    } finally {
      if (asked === since) asked = 0;
    }
    if (number !== latest && !asked) read();
  }

  function show(data) {
    spans = data.spans;
    draw();
    setText(count, data.summary);
    const over = data.count > data.limit;
    count.classList.toggle("cogvx-over", over);
    fill.classList.toggle("cogvx-over", over);
    fill.style.transform = `scaleX(${Math.min(1, data.count / data.limit)})`;
    const unknown = spans.filter(([, , kind, word]) => kind === "unknown" && word);
    keepChildren(near, unknown, ([start, end, , word]) => `${start} ${end} ${word} ${shown.slice(start, end)}`, suggestion);
  }

  function draw() {
    const parts = [];
    let at = 0;
    spans.forEach(([start, end, kind], number) => {
      parts.push(shown.slice(at, start));
      parts.push(h("span", { class: `cogvx-token-${kind}${number % 2 ? " cogvx-odd" : ""}`, text: shown.slice(start, end) }));
      at = end;
    });
    // The last line break of a block is not shown, but it is in the text.
    tokens.replaceChildren(...parts, `${shown.slice(at)}\n`);
    follow();
  }

  function suggestion([start, end, , word]) {
    const wrong = shown.slice(start, end);
    const short = wrong.length > 20 ? `${wrong.slice(0, 20)}…` : wrong;
    return button(`${short} → ${word}`, {
      class: "cogvx-chip",
      title: `“${short}” is unknown to the model: did you mean ${word}?`,
      on: () => put(word, start, end),
    });
  }

  function follow() {
    tokens.scrollTop = input.scrollTop;
    // A line that just fits must not wrap here: clientWidth is rounded, and so is the width of each token.
    tokens.style.width = `${input.getBoundingClientRect().width - (input.offsetWidth - input.clientWidth) + 0.5}px`;
  }

  /** Type a text in place of a part of what is there; the browser's undo takes it back. */
  function put(text, start, end) {
    input.focus();
    input.setSelectionRange(start, end);
    const command = text === "" ? "delete" : "insertText";
    if (start === end && text === "") return;
    if (document.execCommand?.(command, false, text)) return;
    input.setRangeText(text, start, end, "end");
    input.dispatchEvent(new Event("input", { bubbles: true }));
  }

  function replace(text) {
    const [start, end] = promptDifference(input.value, text);
    if (input.value !== text) put(text.slice(start, text.length - end), start, input.value.length - end);
    input.focus();
  }

  function onKey(event) {
    if (!event.altKey || !history || !["ArrowUp", "ArrowDown"].includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    history.walk(event.key === "ArrowUp" ? 1 : -1);
  }

  const field = {
    element,
    input,
    onInput: null,
    get value() {
      return input.value;
    },
    set value(text) {
      input.value = text ?? "";
      read();
    },
    focus() {
      input.focus();
      input.setSelectionRange(input.value.length, input.value.length);
    },
    replace,
    submitted: () => history?.forget(),
  };
  fields[row.name] = field;
  let model = "";
  app.watch("form", (form) => {
    if (form.model === model) return;
    model = form.model;
    read();
    words?.refresh();
  });
  return field;
}

/** (characters at the start, at the end) that two texts share. */
function promptDifference(before, after) {
  const most = Math.min(before.length, after.length);
  let start = 0;
  while (start < most && before[start] === after[start]) start++;
  let end = 0;
  while (end < most - start && before.at(-1 - end) === after.at(-1 - end)) end++;
  return [start, end];
}

/** The spans of a text for another one, until it has been read: those before and after the change. */
function promptShift(spans, before, after) {
  const [start, end] = promptDifference(before, after);
  const moved = after.length - before.length;
  return spans.flatMap(([from, to, kind, word]) => {
    if (to <= start) return [[from, to, kind, word]];
    return from >= before.length - end ? [[from + moved, to + moved, kind, word]] : [];
  });
}
