// The form here and in the kernel: each change is of some fields, and of a field the newest one stays.

/**
 * Sends what is edited and takes in the kernel's form. `values()` are those of all fields, by name; `show(values)`
 * shows those of some; `again()` sends soon.
 */
function FormEdits(app, values, show, again) {
  const edited = new Map(); // name of a field → number of the edit that changed it last
  let edits = 0;
  let seen = {}; // values at the last look
  let known = {}; // those that the kernel has, or was sent
  let revision = 0; // of the newest form of the kernel's that was taken in
  const asking = []; // the number of the last edit before each question under way that changes the kernel's form

  const same = (one, two) => JSON.stringify(one ?? null) === JSON.stringify(two ?? null);
  const without = (all, leave) => Object.fromEntries(Object.entries(all).filter(([name, value]) => !leave(name, value)));

  /** Take note of what has been edited since the last look; the number of the last edit. */
  function look() {
    const now = values();
    const changed = Object.keys(now).filter((name) => !same(now[name], seen[name]));
    if (changed.length) edits += 1;
    for (const name of changed) edited.set(name, edits);
    seen = now;
    return edits;
  }

  const unsent = () => without(seen, (name, value) => same(value, known[name]));

  /** Send what the kernel doesn't have; the answer to "form.edit". */
  async function send() {
    const since = look();
    const changed = unsent();
    Object.assign(known, changed);
    try {
      const { data } = await app.ask("form.edit", { values: changed });
      take(data, since);
      return data;
    } catch (error) {
      for (const name of Object.keys(changed)) delete known[name];
      throw error;
    }
  }

  /** Ask what changes the kernel's form, once that has what was edited until now; the answer. */
  async function ask(question) {
    const since = look();
    asking.push(since);
    let answer = null;
    try {
      await send().catch(() => {}); // the form says what is wrong
      answer = await question();
    } finally {
      asking.splice(asking.indexOf(since), 1);
    }
    if (answer.data) take(answer.data, since);
    return answer;
  }

  /**
   * Show the kernel's form, but for the fields that were edited after the edit with the number `since`, or after
   * something else was asked that may have changed them already.
   */
  function take(answer, since) {
    look();
    const last = Math.min(since, ...asking);
    if (answer.revision < revision) return; // a newer one was faster
    revision = answer.revision;
    known = { ...answer.form };
    const newer = without(answer.form, (name, value) => edited.get(name) > last || same(value, seen[name]));
    if (Object.keys(newer).length) {
      show(newer);
      seen = values();
    }
    if (Object.keys(unsent()).length) again(); // it was edited before the kernel changed it, or can't be shown
  }

  return { ask, send, take };
}
