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
  let elsewhere = null; // the kernel's form as others changed it, where it is still to be taken in
  let revision = 0; // of the newest form of the kernel's that was taken in
  const sending = new Set(); // {since, changed}: edits under way
  const asking = []; // questions under way that change the kernel's form: see `ask`

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
    const sent = { since, changed };
    sending.add(sent);
    try {
      const { data } = await app.ask("form.edit", { values: changed });
      sending.delete(sent);
      // It may be from before what is asked. What else is under way and not in it, is lost, and sent again.
      const newer = asking.length ? [] : [...sending].filter((other) => other.since <= since);
      take(data, Math.min(since, ...asking.map((asked) => asked.since)), Object.assign({}, ...newer.map((other) => other.changed)));
      return data;
    } catch (error) {
      for (const [name, value] of Object.entries(changed)) if (same(known[name], value)) delete known[name];
      if (error.lost && !app.isSilent()) again(); // at the end of a silence it is sent anyway
      throw error;
    } finally {
      sending.delete(sent);
      if (elsewhere) follow(elsewhere);
    }
  }

  /** Send before a question. What is lost now would be sent again after it; of other errors the form tells. */
  const sendFirst = () => send().catch((error) => {
    if (error.lost) throw error;
  });

  /**
   * Ask what changes the kernel's form, once that has what was edited until now. The answer, with `undo`, which
   * shows again what was there before in the fields that it changed, but for those edited since.
   */
  async function ask(question) {
    // The number of the last edit before it, and for each field that was shown since then the values before and now.
    const asked = { since: look(), before: {}, after: {} };
    await sendFirst();
    if (Object.keys(unsent()).length) await sendFirst(); // an edit before that was lost
    asking.push(asked);
    try {
      const answer = await question();
      for (const sent of sending) if (sent.since <= asked.since) sending.delete(sent); // the answer is newer
      if (answer.data) take(answer.data, asked.since);
      const undo = () => show(without(asked.before, (name) => !same(values()[name], asked.after[name])));
      return { ...answer, undo };
    } finally {
      asking.splice(asking.indexOf(asked), 1);
      if (elsewhere) follow(elsewhere);
    }
  }

  /** Show the kernel's form, but for the fields that were edited after the edit with the number `since`, and `others`. */
  function take(answer, since, others = {}) {
    look();
    if (answer.revision < revision) return; // a newer one was faster
    revision = answer.revision;
    known = Object.assign({ ...answer.form }, ...[...sending].filter((sent) => sent.since > since).map((sent) => sent.changed));
    const newer = without(answer.form, (name, value) => edited.get(name) > since || name in others || same(value, seen[name]));
    if (Object.keys(newer).length) {
      const before = seen;
      show(newer);
      seen = values();
      for (const asked of asking)
        for (const name of Object.keys(newer)) {
          if (!(name in asked.before)) asked.before[name] = before[name];
          asked.after[name] = seen[name];
        }
    }
    if (Object.keys(unsent()).length) again(); // it was edited before the kernel changed it, or can't be shown
  }

  /** Show what the kernel's form has from elsewhere, as soon as nothing of this page's is under way. */
  function follow(state) {
    elsewhere = state;
    const since = look();
    if (asking.length || sending.size || Object.keys(unsent()).length) return;
    elsewhere = null;
    take(state, since);
  }

  return { ask, send, take, follow };
}
