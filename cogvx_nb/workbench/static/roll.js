// The film roll: what runs and waits, what ended without a video, and everything made, newest first.

const ROLL_WAITING = 4; // waiting jobs that are shown before the results

/** The row at the foot of the page. */
function Roll(app) {
  const list = h("ul", { class: "cogvx-roll-list", "aria-label": "Queue and results, newest first" });
  const element = h("section", { class: "cogvx-roll", "aria-label": "Film roll" }, list);
  const state = { jobs: {}, roll: [], ended: [], chosen: "", dismissed: new Set() };

  function show() {
    const { jobs, roll, ended } = state;
    const entries = [];
    if (jobs.unfinished?.length) entries.push({ kind: "left", key: "left", lines: jobs.unfinished, count: jobs.resumable });
    if (jobs.running) entries.push({ kind: "running", key: jobs.running.id, job: jobs.running });
    const waiting = jobs.waiting ?? [];
    const shown = state.unfolded ? waiting : waiting.slice(0, ROLL_WAITING);
    for (const job of shown) entries.push({ kind: "waiting", key: job.id, job });
    if (waiting.length > ROLL_WAITING)
      entries.push({ kind: "more", key: `${waiting.length} ${shown.length}`, rest: waiting.length - shown.length });
    for (const job of ended) if (!state.dismissed.has(job.id)) entries.push({ kind: "ended", key: job.id, job });
    for (const row of roll) entries.push({ kind: "result", key: row.path, row });
    keepChildren(list, entries, ({ kind, key }) => `${kind} ${key}`, make, update);
    if (!entries.length) list.replaceChildren();
  }

  function make(entry) {
    const card = ROLL_CARDS[entry.kind](app, entry, entry.kind === "more" ? unfold : dismiss);
    return h("li", { class: `cogvx-card cogvx-card-${entry.kind}` }, card);
  }

  function update(element, entry) {
    if (entry.kind === "waiting") setText(element.querySelector("small"), rollWaiting(entry.job));
    if (entry.kind !== "result") return;
    const on = entry.key === state.chosen;
    element.classList.toggle("cogvx-chosen", on);
    element.querySelector("button").setAttribute("aria-current", on ? "true" : "false");
  }

  function dismiss(id, away = true) {
    state.dismissed[away ? "add" : "delete"](id);
    show();
  }

  function unfold() {
    state.unfolded = !state.unfolded;
    show();
  }

  /** Choose the result so many places further on. */
  function step(places) {
    const { roll } = state;
    if (!roll.length) return;
    const now = roll.findIndex((row) => row.path === state.chosen);
    const next = roll[Math.max(0, Math.min(roll.length - 1, now < 0 ? 0 : now + places))];
    app.choose(next.path);
  }

  function choose(path) {
    state.chosen = path;
    show();
    list.querySelector(".cogvx-chosen")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  return {
    element,
    step,
    choose,
    get chosen() { return state.chosen; },
    set(name, value) {
      state[name] = value;
      show();
    },
    find: (path) => state.roll.find((row) => row.path === path),
  };
}

/** What each kind of entry looks like. */
const ROLL_CARDS = {
  left: (app, { lines, count }) => [
    h("p", { class: "cogvx-card-text", text: lines[0], title: lines.join("\n") }),
    count ? button("Run these", { icon: "play", class: "cogvx-run-these", on: () => resumeLeft(app) }) : null,
    count ? button("Discard", { icon: "trash", class: "cogvx-discard-these", on: () => app.run("queue.discard") }) : null,
  ],
  more: (app, { rest }, unfold) => [
    button(rest ? `${rest} more` : "Fewer", { title: "show or fold the jobs that wait", on: unfold }),
  ],
  waiting: (app, { job }) => [
    h("p", { class: "cogvx-card-text", text: job.prompt, title: rollTitle(job) }),
    h("small", { text: rollWaiting(job) }),
    h("span", { class: "cogvx-card-buttons" },
      button("", { icon: "first", title: `make it next: ${job.prompt}`, on: () => app.run("queue.move", { id: job.id, places: -10000 }) }),
      button("", { icon: "left", title: `earlier: ${job.prompt}`, on: () => app.run("queue.move", { id: job.id, places: -1 }) }),
      button("", { icon: "right", title: `later: ${job.prompt}`, on: () => app.run("queue.move", { id: job.id, places: 1 }) }),
      button("", { icon: "close", title: `take it out: ${job.prompt}`, on: () => app.run("queue.cancel", { id: job.id }) })),
  ],
  running: (app, { job }) => [
    h("button", { type: "button", class: "cogvx-card-main", on: { click: () => app.follow() } },
      h("span", { class: "cogvx-card-text", text: job.prompt, title: rollTitle(job) }),
      h("small", { class: "cogvx-card-running", text: job.pieces ? `storyboard of ${job.pieces}` : job.finish ? `finishing: ${job.finish}` : job.again ? "making it again" : "running" })),
  ],
  ended: (app, { job }, dismiss) => [
    h("p", { class: "cogvx-card-text", text: job.error || job.notes.at(-1) || job.prompt, title: `${rollTitle(job)}\n${job.error}` }),
    h("small", { class: job.state === "failed" ? "cogvx-failed" : "", text: job.again && job.state === "done" ? "made again" : job.state }),
    h("span", { class: "cogvx-card-buttons" },
      job.state === "done" ? null : button("", { icon: "again", title: `try again: ${job.prompt}`, on: () => retryEnded(app, job.id, dismiss) }),
      button("", { icon: "close", title: `dismiss: ${job.prompt}`, on: () => dismiss(job.id) })),
  ],
  result: (app, { row }) => {
    const picture = h("img", { alt: "", class: "cogvx-thumb" });
    app.media.poster(row.path).then((url) => url && (picture.src = url), () => {});
    const main = h("button", { type: "button", class: "cogvx-card-main", title: rollTitle(row), "aria-label": `${row.prompt}, seed ${row.seed}`, on: { click: () => app.choose(row.path) } }, picture);
    let moving = false;
    const move = async () => {
      moving = true;
      if (app.stillness()) return;
      const url = await app.media.clip(row.path).catch(() => "");
      if (moving && url) picture.src = url;
    };
    const rest = async () => {
      moving = false;
      const url = await app.media.poster(row.path).catch(() => "");
      if (url) picture.src = url;
    };
    main.addEventListener("pointerenter", move);
    main.addEventListener("pointerleave", rest);
    main.addEventListener("focus", move);
    main.addEventListener("blur", rest);
    return [main];
  },
};

function rollWaiting(job) {
  return `waiting${job.seconds ? ` · ≈ ${formatSeconds(job.seconds)}` : ""}`;
}

function rollTitle(row) {
  const facts = [`${row.frames} frames`, row.steps ? `${row.steps} steps` : "", `seed ${row.seed}`, row.speed ?? "", row.model];
  return `${row.prompt}\n${facts.filter(Boolean).join(" · ")}`;
}

/** Put a job into the queue again; its card goes at once, and comes back where that failed. */
async function retryEnded(app, id, dismiss) {
  dismiss(id);
  const { data } = await app.run("queue.retry", { id });
  if (!data?.ids.length) dismiss(id, false);
}

async function resumeLeft(app) {
  const { data } = await app.run("queue.resume");
  for (const line of data ?? []) app.tell(line, "error");
}
