// Controls of the form's fields, one for each kind of field.

/** A field of the form by its kind: {element, value}. A new kind is a row here. */
const FORM_CONTROLS = {
  check(row, changed) {
    const input = h("input", { type: "checkbox", name: row.name, on: { change: changed } });
    const element = h("label", { class: "cogvx-check", title: row.help }, input, row.label);
    return { element, get value() { return input.checked; }, set value(v) { input.checked = Boolean(v); } };
  },
  choice(row, changed) {
    const options = row.choices.map(([value, label]) => h("option", { value, text: label }));
    const input = h("select", { on: { change: changed } }, options);
    return formLabelled(row, input, (text) => text);
  },
  text(row, changed) {
    return formLabelled(row, h("input", { type: "text", on: { input: changed } }), (text) => text);
  },
  slider(row, changed) {
    const { least: min, most: max, step } = row;
    let exact = row.default; // a range input rounds what it is given to its steps
    const input = h("input", { type: "range", min, max, step, name: row.name, on: { input: () => (show(Number(input.value)), changed()) } });
    const shown = h("output");
    const element = h("label", { class: "cogvx-field", title: row.help }, h("span", { text: row.label }), h("span", { class: "cogvx-slider" }, input, shown));
    function show(value) {
      exact = value;
      setText(shown, String(exact));
      input.setAttribute("aria-valuetext", exact);
    }
    return {
      element,
      input,
      get value() { return exact; },
      set value(value) {
        input.value = value ?? row.default;
        show(value ?? row.default);
      },
    };
  },
  file: (row, changed) => FORM_CONTROLS.text(row, changed),
  loras: (row, changed) => FORM_CONTROLS.text(row, changed),
  whole: (row, changed) => formNumber(row, changed),
  number: (row, changed) => formNumber(row, changed),
  prompt(row, changed) {
    return formLabelled(row, h("textarea", { rows: 2, on: { input: changed } }), (text) => text);
  },
};

function formNumber(row, changed) {
  const { least: min, most: max, step } = row;
  const input = h("input", { type: "number", min, max, step, on: { input: changed } });
  return formLabelled(row, input, (text) => (text === "" ? null : Number(text)));
}

function formLabelled(row, input, parse) {
  input.name = row.name;
  input.classList.add(`cogvx-${row.name.replaceAll("_", "-")}`);
  const element = h("label", { class: "cogvx-field", title: row.help }, h("span", { text: row.label }), input);
  return {
    element,
    input,
    get value() { return parse(input.value); },
    set value(value) { input.value = value ?? ""; },
  };
}
