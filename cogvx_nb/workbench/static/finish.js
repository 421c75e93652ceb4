// Finishing results: more frames a second, larger ones; as jobs of the queue.

/** Ask what to make of these results, and queue it. */
async function finishChoose(app, paths) {
  const { data } = await app.run("finish.methods");
  if (!data) return;
  const choice = (label, options) => {
    const select = h("select", { "aria-label": label }, options.map(([value, text]) => h("option", { value, text })));
    return { select, row: h("label", { class: "cogvx-share-options" }, label, select) };
  };
  const factor = choice("Frames a second", [["", "as they are"], ...data.factors.map((times) => [times, `${times} times as many`]), ["fps", "another number"]]);
  const fps = h("input", { type: "number", min: 1, max: data.most_fps, step: 1, value: 24, "aria-label": "Frames a second, in numbers" });
  const interpolation = choice("made by", Object.entries(data.interpolations));
  const upscaler = choice("by", Object.entries(data.upscalers).map(([name, { about }]) => [name, about]));
  for (const option of upscaler.select.options) {
    option.disabled = Boolean(data.upscalers[option.value].lacking);
    option.title = data.upscalers[option.value].lacking;
  }
  const scale = choice("Size", [["", "as it is"]]);
  const show = () => {
    fps.hidden = factor.select.value !== "fps";
    interpolation.row.hidden = !factor.select.value;
    const kept = scale.select.value;
    const { scales } = data.upscalers[upscaler.select.value];
    scale.select.replaceChildren(...[["", "as it is"], ...scales.map((times) => [times, `${times} times each side`])].map(([value, text]) => h("option", { value, text })));
    scale.select.value = scales.map(String).includes(kept) ? kept : "";
    upscaler.row.hidden = !scale.select.value && Object.keys(data.upscalers).length < 2;
    start.disabled = !factor.select.value && !scale.select.value;
  };
  const start = button("Finish", { primary: true, on: async () => {
    const args = { paths };
    if (factor.select.value === "fps") args.fps = Number(fps.value);
    else if (factor.select.value) args.factor = Number(factor.select.value);
    if (factor.select.value) args.interpolation = interpolation.select.value;
    if (scale.select.value) Object.assign(args, { scale: Number(scale.select.value), upscaler: upscaler.select.value });
    box.close();
    const { data: queued } = await app.run("queue.finish", args);
    for (const problem of queued?.problems ?? []) app.tell(problem, "error");
  } });
  for (const { select } of [factor, upscaler, scale]) select.addEventListener("change", show);
  factor.row.append(fps);
  show();
  const title = paths.length === 1 ? "Finish this video" : `Finish ${paths.length} videos`;
  const box = app.dialog(title, h("div", { class: "cogvx-column cogvx-finish" },
    h("small", { text: "Frames are made between frames first, and enlarged then. It is a new video; this one stays." }),
    factor.row, interpolation.row, scale.row, upscaler.row, start));
}
