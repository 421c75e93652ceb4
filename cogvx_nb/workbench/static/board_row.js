// A row of the view Storyboard.

const BOARD_STATES = { making: "being made…", made: "made", taken: "taken" };

/** A piece: what is typed, how it stands with it, and what is wrong. `acts`: edited, next, move, remove. */
function BoardEntry({ prompt, frames, transition }, transitions, acts) {
  const id = `cogvx-board-${Math.random().toString(36).slice(2)}`;
  const name = h("th", { scope: "row" });
  const text = h("textarea", { rows: 2, class: "cogvx-board-prompt", "aria-describedby": id, on: { input: () => acts.edited(self), keydown } });
  const length = h("input", { type: "number", min: 1, step: 1, class: "cogvx-board-frames", "aria-describedby": `${id} ${id}-changed`, on: { input: () => acts.edited(self), keydown } });
  const follows = h("select", { class: "cogvx-board-transition", "aria-describedby": id, on: { change: () => { hint(); acts.edited(self); } } },
    Object.entries(transitions).map(([value, about]) => h("option", { value, text: value, title: about })));
  const state = h("td", { class: "cogvx-board-state" });
  const wrong = h("p", { class: "cogvx-problem cogvx-board-problem", id, role: "status" });
  const changed = h("p", { class: "cogvx-board-changed", id: `${id}-changed` });
  const up = button("", { icon: "left", class: "cogvx-board-up", title: "earlier", on: () => acts.move(self, -1, up) });
  const down = button("", { icon: "right", class: "cogvx-board-down", title: "later", on: () => acts.move(self, 1, down) });
  const remove = button("", { icon: "close", title: "remove", on: () => acts.remove(self) });
  const element = h("tr", { class: "cogvx-board-row" }, name, h("td", {}, text, wrong, changed), h("td", {}, length), h("td", {}, follows), state,
    h("td", {}, h("span", { class: "cogvx-board-moves" }, up, down, remove)));
  text.value = prompt;
  length.value = frames ?? "";
  follows.value = transition;
  if (!follows.value) { // as it was pasted: what is wrong with it is said at the row
    follows.append(h("option", { value: transition, text: transition }));
    follows.value = transition;
  }
  wrong.hidden = changed.hidden = true;
  hint();

  /** What a prompt that isn't typed stands for. */
  function hint() {
    text.placeholder = follows.value === "continue" ? "what is to be seen; empty: as in the row before" : "what is to be seen";
  }

  function keydown(event) {
    const places = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (event.altKey && places) acts.move(self, places, event.target);
    else if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) acts.next(self);
    else return;
    event.preventDefault();
  }

  const self = {
    element,
    get value() {
      return { prompt: text.value.replace(/\s*\n\s*/g, " "), frames: length.value === "" ? null : Math.round(Number(length.value)), transition: follows.value };
    },
    focus: () => text.focus(),
    /** Its number among `count`; `usual`: frames where none are typed. */
    place(place, count, usual) {
      const number = place + 1;
      setText(name, String(number));
      text.setAttribute("aria-label", `Prompt of piece ${number}`);
      length.setAttribute("aria-label", `Frames of piece ${number}`);
      length.placeholder = usual ?? "";
      follows.setAttribute("aria-label", `Transition to piece ${number}`);
      if (!place) follows.value = "cut"; // there is nothing before it
      hint();
      follows.disabled = !place;
      up.disabled = !place;
      down.disabled = number === count;
      for (const [one, what] of [[up, "earlier"], [down, "later"], [remove, "remove"]]) one.setAttribute("aria-label", `Piece ${number}: ${what}`);
    },
    /** `changes`: how its values are adjusted; null where that isn't known now. */
    stand(now, problem, changes = null) {
      setText(state, BOARD_STATES[now] ?? "");
      state.classList.toggle("cogvx-board-working", now === "making");
      setText(wrong, problem?.text ?? "");
      wrong.hidden = !problem;
      if (changes !== null) setText(changed, changes);
      changed.hidden = !changed.textContent;
      const about = problem && ({ frames: length, transition: follows }[problem.field] ?? text);
      for (const one of [text, length, follows]) setInvalid(one, one === about ? wrong : null);
    },
  };

  return self;
}
