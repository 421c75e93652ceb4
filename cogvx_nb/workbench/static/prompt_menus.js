// What helps to write a prompt: earlier ones, styles, and the words of a demonstration model.

/** A button with a panel below it, which Esc, a click elsewhere or leaving it by Tab closes. */
function PromptMenu(label, options, content, onOpen) {
  const panel = h("div", { class: "cogvx-popup", role: "dialog", "aria-label": label, hidden: true }, content);
  const toggle = button(label, { ...options, class: "cogvx-small", on: () => (panel.hidden ? open() : close(true)) });
  toggle.setAttribute("aria-expanded", "false");
  const element = h("div", { class: "cogvx-menu" }, toggle, panel);

  function open() {
    panel.hidden = false;
    panel.setAttribute("data-cogvx-popup", "");
    toggle.setAttribute("aria-expanded", "true");
    document.addEventListener("pointerdown", outside, true);
    onOpen();
  }

  /** `back`: give the toggle the keyboard, unless the panel was left already, such as for the prompt. */
  function close(back = false) {
    const open = !panel.hidden;
    panel.hidden = true;
    panel.removeAttribute("data-cogvx-popup");
    toggle.setAttribute("aria-expanded", "false");
    document.removeEventListener("pointerdown", outside, true);
    if (back && open) toggle.focus();
  }

  function outside(event) {
    // In a shadow root the document sees its host as the target.
    if (!element.isConnected || !event.composedPath().includes(element)) close();
  }

  panel.addEventListener("cogvx-close", () => close(true));
  element.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !element.contains(event.relatedTarget)) close();
  });
  panel.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    const rows = [...panel.querySelectorAll("input:not([hidden]), .cogvx-popup-row > button:first-child")];
    const at = rows.indexOf(panel.getRootNode().activeElement);
    if (at < 0) return;
    event.preventDefault();
    event.stopPropagation();
    rows.at((at + (event.key === "ArrowDown" ? 1 : -1)) % rows.length)?.focus();
  });
  return { element, panel, toggle, open, close };
}

/** A row of a menu: a text to choose, a second line, and buttons behind it. */
function promptMenuRow(text, second, choose, ...buttons) {
  const main = h("button", { type: "button", on: { click: choose } }, h("span", { class: "cogvx-clip", text }),
    second ? h("small", { class: "cogvx-clip", text: second }) : null);
  return h("li", { class: "cogvx-popup-row" }, main, buttons);
}

/** Earlier prompts with a search; Alt+↑ and Alt+↓ in the prompt walk them. */
function PromptHistory(app, fields) {
  const search = h("input", { type: "search", placeholder: "Search", "aria-label": "Search earlier prompts", on: { input: () => fill() } });
  const list = h("ul", { "aria-label": "Earlier prompts" });
  const empty = h("p", { class: "cogvx-popup-note", "aria-live": "polite" });
  const menu = PromptMenu("History", { icon: "again", title: "Earlier prompts (Alt+↑, Alt+↓)" }, [search, empty, list], () => {
    search.value = "";
    search.focus();
    fill();
  });
  let latest = 0;
  let walked = null; // the earlier prompts while they are walked
  let place = -1; // in `walked`; -1: what was typed
  let draft = "";

  async function fill() {
    const number = ++latest;
    const { data } = await app.run("prompt.history", { search: search.value });
    if (!data || number !== latest) return;
    const more = data.count - data.prompts.length;
    const none = search.value ? "None has these words." : "None yet: each prompt that you generate from is kept here.";
    setText(empty, data.count ? (more > 0 ? `${more} more: search for them.` : "") : none);
    keepChildren(list, data.prompts, (past) => JSON.stringify([past.prompt, past.negative_prompt, past.at]), row);
  }

  function row(past) {
    const negative = past.negative_prompt && `not: ${past.negative_prompt} · `;
    const remove = button("", { icon: "trash", title: `Forget “${past.prompt.slice(0, 60)}”`, class: "cogvx-small", on: async () => {
      search.focus();
      await app.run("prompt.forget", { prompt: past.prompt, negative_prompt: past.negative_prompt });
      fill();
    } });
    return promptMenuRow(past.prompt, `${negative}${formatAgo(past.at)}`, () => {
      menu.close();
      fields.negative_prompt?.replace(past.negative_prompt);
      fields.prompt.replace(past.prompt);
    }, remove);
  }

  /** One prompt earlier (1) or later (-1). */
  async function walk(by) {
    if (walked === null || (place < 0 && by > 0)) {
      const typed = fields.prompt.value;
      const { data } = await app.run("prompt.history");
      if (fields.prompt.value !== typed) return;
      draft = typed;
      walked = (data?.prompts ?? []).filter((past) => past.prompt !== draft);
      place = -1;
    }
    place = Math.max(-1, Math.min(walked.length - 1, place + by));
    fields.prompt.replace(place < 0 ? draft : walked[place].prompt);
  }

  function forget() {
    walked = null;
    place = -1;
  }

  return { element: menu.element, walk, forget };
}

/** Named texts around the prompt: apply, save, delete. */
function PromptStyles(app, fields) {
  const list = h("ul", { "aria-label": "Styles" });
  const note = h("p", { class: "cogvx-popup-note", "aria-live": "polite" });
  const save = button("Save a style…", { icon: "add", on: () => edit() });
  const menu = PromptMenu("Styles", { icon: "more", title: "Named texts around the prompt" }, [note, list, save], async () => {
    (menu.panel.querySelector("button") ?? save).focus();
    const reply = await ask("styles.list");
    if (reply) show(reply);
  });

  async function ask(action, args = {}) {
    try {
      return (await app.ask(action, args)).data;
    } catch (error) {
      setText(note, error.message);
      app.tell(error.message, "error");
      return null;
    }
  }

  function show({ styles }) {
    setText(note, styles.length ? "" : "None yet. A style is a text around the prompt, such as “{prompt}, in the evening”.");
    keepChildren(list, styles, (style) => JSON.stringify(style), row);
  }

  function row(style) {
    const second = style.negative_prompt ? `${style.prompt} · not: ${style.negative_prompt}` : style.prompt;
    const change = button("", { icon: "copy", title: `Change “${style.name}”`, class: "cogvx-small", on: () => edit(style) });
    const remove = button("", { icon: "trash", title: `Delete “${style.name}”`, class: "cogvx-small", on: async () => {
      save.focus();
      const left = await ask("styles.delete", { name: style.name });
      if (!left) return;
      show(left);
      app.tell(`The style “${style.name}” is deleted.`, "info", async () => show(await ask("styles.save", style) ?? left));
    } });
    return promptMenuRow(style.name, second, () => apply(style), change, remove);
  }

  async function apply(style) {
    const [prompt, negative] = [fields.prompt.value, fields.negative_prompt?.value ?? ""];
    const composed = await ask("styles.apply", { name: style.name, prompt, negative_prompt: negative });
    if (!composed) return;
    menu.close();
    if (fields.prompt.value !== prompt || (fields.negative_prompt?.value ?? "") !== negative)
      return app.tell("The prompt was edited meanwhile: it stays as it is.");
    fields.negative_prompt?.replace(composed.negative_prompt);
    fields.prompt.replace(composed.prompt);
  }

  /** A dialog that saves a style: a new one of the prompt, or one that is there. */
  function edit(style = { name: "", prompt: fields.prompt.value, negative_prompt: fields.negative_prompt?.value ?? "" }) {
    menu.close();
    const name = h("input", { type: "text", maxlength: 100, required: true });
    const prompt = h("textarea", { rows: 3 });
    const negative = h("textarea", { rows: 2 });
    const problem = h("p", { class: "cogvx-problem", role: "alert" });
    [name.value, prompt.value, negative.value] = [style.name, style.prompt, style.negative_prompt];
    const labelled = (text, input) => h("label", { class: "cogvx-field" }, h("span", { text }), input);
    const form = h("form", { class: "cogvx-column", on: { submit: keep } },
      labelled("Name", name),
      labelled("Prompt: {prompt} is where the typed one goes; without it the style comes after", prompt),
      labelled("Negative prompt", negative),
      problem,
      h("div", {}, h("button", { type: "submit", class: "cogvx-button cogvx-primary", text: "Save" })));
    const box = app.dialog(style.name ? "Change a style" : "Save a style", form);
    name.focus();

    async function keep(event) {
      event.preventDefault();
      const values = { name: name.value, prompt: prompt.value, negative_prompt: negative.value };
      try {
        const { data } = await app.ask("styles.save", values);
        show(data);
        box.close();
        app.tell(`The style “${values.name.trim()}” is saved.`);
      } catch (error) {
        setText(problem, error.message);
      }
    }
  }

  return { element: menu.element };
}

/** The words of a demonstration model, in groups of which one is open; hidden for other models. */
function PromptWords(app, fields) {
  const heads = h("div", { class: "cogvx-word-groups", role: "group", "aria-label": "Words to click" });
  const words = h("div", { class: "cogvx-words" });
  const element = h("div", { class: "cogvx-prompt-words", hidden: true }, heads, words);
  let groups = [];
  let open = "";

  /** Ask which words the chosen model has. */
  async function refresh() {
    const { data } = await app.run("prompt.words");
    if (!data) return;
    groups = data.groups;
    element.hidden = !groups.length;
    heads.title = data.sentence;
    if (!groups.some((group) => group.name === open)) open = groups[0]?.name ?? "";
    show();
  }

  function show() {
    keepChildren(heads, groups, (group) => group.name, (group) =>
      button(group.name, { class: "cogvx-small cogvx-word-group", on: () => { open = group.name; show(); } }),
      (element, group) => element.setAttribute("aria-pressed", String(group.name === open)));
    const group = groups.find(({ name }) => name === open);
    keepChildren(words, group?.words ?? [], (word) => `${open} ${word}`, (word) =>
      button(word, { class: "cogvx-chip", title: `Put “${word}” into the prompt`, on: () => choose(group.name, word) }));
  }

  async function choose(group, word) {
    const text = fields.prompt.value;
    const { data } = await app.run("prompt.choose", { text, group, word });
    if (!data) return;
    if (fields.prompt.value === text) fields.prompt.replace(data.text);
    else choose(group, word); // it is to be in what is typed by now
  }

  return { element, refresh };
}
