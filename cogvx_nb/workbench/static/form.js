// The request: prompt, length and speed with what they cost, seed, and the other settings.

const FORM_SETTLE = 120; // milliseconds of silence after which what was typed is checked

/** The left column. `values` are those of all fields, by name. */
function Form(app) {
  const { setup } = app.traits;
  const rows = Object.fromEntries(setup.fields.map((row) => [row.name, row]));
  const check = debounce(checkForm, FORM_SETTLE);
  const changed = () => check();
  const models = new Map(setup.models.map((model) => [model.name, model]));

  const model = h("select", { name: "model", class: "cogvx-model", "aria-label": "Model", on: { change: onModel } },
    setup.models.map(({ name }) => h("option", { value: name, text: name })));
  const demo = FormDemo(app);
  const prompts = Object.fromEntries(
    setup.fields.filter((row) => row.section === "prompt").map((row) => [row.name, FormPrompt(app, row, changed)]));
  const inputs = FormInputs(app, () => (showTuning(), changed()));
  const loras = FormLoras(app, changed, (words) => prompts.prompt.replace([prompts.prompt.value.trim(), words].filter(Boolean).join(", ")));
  const lengths = FormLengths(app, changed);
  const seed = FormSeed(app, rows, changed);
  // Steps and guidance are changed most, and height stands beside width.
  const details = setup.fields.filter((row) => row.section === "details")
    .sort((a, b) => (b.name === "steps" || b.name === "guidance") - (a.name === "steps" || a.name === "guidance"));
  const controls = Object.fromEntries(details.map((row) => [row.name, FORM_CONTROLS[row.control](row, changed)]));
  const problem = h("p", { class: "cogvx-problem", id: `${app.id}-problem`, role: "alert" });
  const anyway = button("Generate anyway", { class: "cogvx-anyway", on: () => allowAndSubmit() });
  const notes = h("ul", { class: "cogvx-notes", "aria-label": "Notes on this request" });
  const other = button("", { class: "cogvx-anyway cogvx-other-model", on: () => ((model.value = otherModel), onModel()) });
  anyway.hidden = other.hidden = true;
  let otherModel = "";
  const enriching = FormEnrich(app, () => prompts.prompt, () => check());
  let permission = "";
  let latest = 0;
  let refused = { of: "", error: null }; // what a submission was refused for, and the values that it had, as JSON

  const element = h("form", { class: "cogvx-form", "aria-label": "Request", on: { submit: (e) => e.preventDefault() } },
    h("div", { class: "cogvx-model-row" }, model, demo.element),
    Object.values(prompts).map((field) => field.element),
    enriching.element,
    h("div", { class: "cogvx-reserved", role: "group", tabindex: 0, "aria-label": "Messages on this request" }, anyway, other, problem, notes),
    inputs.element,
    loras.element,
    lengths.element,
    seed.element,
    h("details", { class: "cogvx-details" }, h("summary", { text: "More settings" }),
      h("div", { class: "cogvx-controls" }, Object.values(controls).map((control) => control.element))));

  const given = new Map(); // name of a field → {value, shown}: the last one that it was filled with, and what its control made of it

  /** All values, by name: as they were filled in where nobody has changed them, since controls round, trim and so on. */
  function values() {
    const found = shownValues();
    for (const [name, { value, shown }] of given) if (found[name] === shown) found[name] = value;
    return found;
  }

  function shownValues() {
    const found = { model: model.value, enriched_from: enriching.typed, ...inputs.value, lora: loras.value, ...lengths.value, ...seed.value };
    for (const [name, field] of Object.entries({ ...prompts, ...controls })) found[name] = field.value;
    return found;
  }

  /** Show other values of some fields, such as those of a result. */
  function fill(form) {
    const { frames, speed } = lengths.value; // the choice of another model would change them
    if (models.has(form.model)) model.value = form.model;
    showModel();
    for (const [name, field] of Object.entries({ ...prompts, ...controls }))
      if (name in form) field.value = form[name];
    inputs.value = form;
    if ("lora" in form) loras.value = form.lora;
    showTuning();
    lengths.value = { frames, speed, ...form };
    seed.value = form;
    if ("enriched_from" in form) enriching.typed = form.enriched_from;
    const shown = shownValues();
    for (const name of Object.keys(form)) if (name in rows) given.set(name, { value: form[name], shown: shown[name] });
    check(); // which predicts what it costs, once the kernel has it
  }

  function onModel() {
    showModel();
    check();
  }

  function showModel() {
    const chosen = models.get(model.value);
    for (const part of [lengths, demo, enriching]) part.show(chosen);
    model.title = chosen?.licence ?? "";
    for (const name of ["height", "width"])
      if (chosen) controls[name]?.input.setAttribute("placeholder", chosen[name]);
  }

  /** Show what tunes something else only where that is given. */
  function showTuning() {
    for (const row of details) controls[row.name].element.hidden = row.tunes.length > 0 && !row.tunes.some(inputs.isGiven);
  }

  /** What the costs depend on. */
  function costKey() {
    const { model: name, steps, attention, gpus, strength, frames, lora } = values();
    const given = app.traits.setup.fields.filter((row) => row.media).map((row) => inputs.isGiven(row.name));
    return JSON.stringify([name, steps, attention, gpus, lora, lengths.extra, given, given.some(Boolean) && [strength, frames]]);
  }

  const known = { key: "" };
  /** Show the costs of the kernel's form, whose key is given. */
  function predict(key) {
    if (key === known.key) return;
    known.key = key;
    const current = (act) => (value) => key === known.key && act(value);
    app.ask("form.predict").then(current(({ data }) => lengths.showCosts(data)), current(() => (known.key = "")));
  }

  async function checkForm() {
    const number = ++latest;
    const key = costKey(); // of what is sent
    try {
      const data = await edits.send();
      if (number !== latest) return;
      showProblem(data.problem ?? (refused.of === JSON.stringify(values()) ? refused.error : null));
      showChecked(data, key);
    } catch (error) {
      if (number === latest) showProblem(error);
    }
  }

  /** Show what the kernel says of its form, besides a problem. */
  function showChecked(data, key) {
    predict(key);
    inputs.preview(values());
    keepChildren(notes, data.notes, (note) => note, (note) => h("li", { text: note }));
  }

  function showProblem(error) {
    setText(problem, error?.text ?? error?.message ?? "");
    permission = error?.permission ?? "";
    anyway.hidden = !permission;
    otherModel = error?.model ?? "";
    other.hidden = !otherModel;
    setText(other.firstChild, `Use ${otherModel}`);
    const about = controlOf(error?.field);
    for (const control of new Set(["model", ...Object.keys(rows)].map(controlOf)))
      if (control) setInvalid(control, control === about ? problem : null);
  }

  /** What is marked where a field has what can't be used: its control, or the group of several. */
  function controlOf(name) {
    const groups = { frames: lengths.element, speed: lengths.element, lora: loras.element };
    return groups[name] ?? element.querySelector(`[name="${name}"]`);
  }

  app.watch("roll", () => {
    const { key } = known;
    if (!key) return; // nothing is shown yet
    known.key = ""; // each video that was made tells more about this machine
    predict(key);
  });

  /** Put what is typed into the queue; `first`: before those that wait. */
  async function submit({ first = true, again = false } = {}) {
    const number = ++latest; // an answer under way is about other values
    check.cancel(); // its answer would take back what this one says
    const key = costKey();
    edits.send().then((data) => number === latest && showChecked(data, key), () => {}); // what is wrong the next answer says
    app.starting(true);
    const submission = { values: values(), copies: seed.copies, first, again };
    const of = JSON.stringify(submission.values);
    const say = (error) => of === JSON.stringify(values()) && showProblem(error); // else a check says what holds
    try {
      const { data } = await app.ask("queue.submit", submission);
      say(null);
      refused = { of: "", error: null };
      if (data.known) offerKnown(data.known);
      else app.follow();
      prompts.prompt.submitted?.();
    } catch (error) {
      say(error);
      app.tell(error.message, "error");
      // A check finds nothing wrong where no prompt is typed yet: it stays until something is typed.
      if (error.field) refused = { of, error };
      if (error.field === "model") check(); // its answer names one that can
    } finally {
      app.starting(false);
    }
  }

  function offerKnown(path) {
    app.choose(path);
    const act = () => submit({ again: true });
    app.tell("You have this video already: here it is.", "info", act, "Make it again");
  }

  function allowAndSubmit() {
    const allowed = permission;
    if (allowed in controls) {
      controls[allowed].value = true;
      app.tell(`“${rows[allowed].label}” is on now, under More settings.`, "info", () => setValue(allowed, false), "Turn it off");
    }
    submit();
  }

  function setValue(name, value) {
    const field = prompts[name] ?? controls[name];
    if (field) field.value = value;
    else seed.value = { [name]: value };
    check();
  }

  const edits = FormEdits(app, values, fill, check);
  return { element, check, values, fill, edits, addLora: loras.include, submit, setValue, focus: () => prompts.prompt.focus(), prompts };
}

/** The chip of the embedded model: what it is, and how to get a large one. */
function FormDemo(app) {
  const element = h("div", { class: "cogvx-demo" });
  function show(model) {
    element.replaceChildren();
    element.hidden = !model?.embedded;
    if (!model?.embedded) return;
    const [large] = app.traits.setup.missing;
    element.append(h("span", { text: "small demonstration model" }));
    if (large) {
      const [name, size, command] = large;
      element.append(button(`Get ${name}`, { class: "cogvx-link", on: () =>
        app.dialog(`Get ${name}`, h("div", {},
          h("p", { text: `${name} draws anything that one can describe in English; it has ${size} and wants a GPU. Run notebook 02_download, or in a terminal:` }),
          h("pre", { text: command, tabindex: 0 }),
          button("Copy", { icon: "copy", on: () => app.copy(command) }))) }));
    }
  }
  return { element, show };
}

/** Letting a chat model rewrite the prompt; `typed` is the prompt before. */
function FormEnrich(app, prompt, changed) {
  const text = h("span", { role: "status" });
  const act = button("Enrich", { title: "let a chat model translate and expand the prompt", on: enrich });
  const element = h("div", { class: "cogvx-enrich-row" }, act, text);
  let typed = "";

  async function enrich() {
    act.disabled = true;
    setText(text, "asking the chat model…");
    const asked = prompt().value;
    try {
      const { data } = await app.ask("form.enrich");
      if (prompt().value !== asked) setText(text, "The prompt was edited meanwhile: it stays as it is.");
      else {
        prompt().value = data.after;
        setTyped(data.before);
        changed();
      }
    } catch (error) {
      setText(text, error.message);
    }
    act.disabled = false;
  }

  function setTyped(before) {
    typed = before;
    setText(text, typed ? `as typed: ${typed}` : "");
    element.hidden = !(typed || offered);
  }

  let offered = false;
  return {
    element,
    show(model) {
      offered = Boolean(model?.enrichable);
      act.hidden = !offered;
      setTyped(typed);
    },
    get typed() { return typed; },
    set typed(before) { setTyped(before); },
  };
}

/** A prompt whose tokens are coloured. */
function FormPrompt(app, row, changed) {
  const field = PromptField(app, row);
  field.onInput = changed;
  return field;
}
