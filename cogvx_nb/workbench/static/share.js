// A result for others: downloads in several formats, and what makes it again.

const SHARE_FIRST = 180000; // milliseconds that making a file may take
const SHARE_NEXT = 6000; // milliseconds until a piece that a server dropped is asked for again

async function sharePiece(app, args) {
  const patience = args.offset ? SHARE_NEXT : SHARE_FIRST;
  for (let attempt = 0; ; attempt++) {
    const late = new Promise((resolve) => setTimeout(resolve, patience, null));
    const got = await Promise.race([app.ask("result.export", args), late]);
    if (got) return got;
    if (attempt === 5) throw new Error("The kernel doesn't answer: the download was given up.");
  }
}

/** Download a result in a format; the promise ends with the download, and says what goes wrong. */
async function shareDownload(app, path, format, how) {
  try {
    const parts = [];
    let facts = { size: 1 };
    for (let offset = 0; offset < facts.size; ) {
      const { data, buffers } = await sharePiece(app, { path, format, offset, ...how });
      facts = data;
      if (!buffers[0]?.byteLength) break;
      parts.push(buffers[0]);
      offset += buffers[0].byteLength;
    }
    const url = URL.createObjectURL(new Blob(parts, { type: facts.type }));
    h("a", { href: url, download: facts.name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
    return true;
  } catch (error) {
    app.tell(error.message, "error");
    return false;
  }
}

/** Ask for a format, and download these results in it. */
async function shareChoose(app, paths) {
  const { data } = await app.run("gallery.formats");
  if (!data) return;
  const bounds = { quality: [1, 100, "85"], fps: [1, 240, "all"], loop: [0, 1000, "0: for ever"] };
  const fields = Object.entries(bounds).map(([name, [min, max, placeholder]]) =>
    [name, h("input", { type: "number", min, max, step: 1, placeholder, "aria-label": name })]);
  const download = async (format) => {
    const chosen = fields.filter(([name, input]) => input.value !== "" && data[format].takes.includes(name));
    const how = Object.fromEntries(chosen.map(([name, input]) => [name, Number(input.value)]));
    box.close();
    if (paths.length > 1) app.tell(`${paths.length} files are made, one after another.`);
    for (const path of paths) if (!(await shareDownload(app, path, format, how))) return;
  };
  const options = h("div", { class: "cogvx-share-options" }, fields.map(([name, input]) => h("label", {}, name, input)));
  const rows = Object.entries(data).map(([format, { about }]) =>
    button(about[0].toUpperCase() + about.slice(1), { icon: "share", class: "cogvx-share-format", on: () => download(format) }));
  const content = h("div", { class: "cogvx-column" }, options, rows);
  if (paths.length === 1) content.append(...shareRecipes(app, paths[0], () => box.close()));
  const title = paths.length === 1 ? "Export and share" : `Export ${paths.length} results`;
  const box = app.dialog(title, content);
}

function shareRecipes(app, path, close) {
  const copy = async (what) => {
    const { data } = await app.run("result.recipe", { path });
    close();
    if (!data) return;
    if (data[what]) app.copy(data[what]);
    else app.tell(data.problem, "error");
  };
  return [
    h("h3", { text: "Make it again" }),
    button("Copy the command line", { icon: "copy", on: () => copy("command") }),
    button("Copy the notebook cell", { icon: "copy", on: () => copy("cell") }),
  ];
}

/** A button that offers all of this for a result. */
function ShareMenu(app, path) {
  const element = button("Share", { icon: "share", title: "download it, or copy what makes it again", class: "cogvx-share", on: () => shareChoose(app, [path]) });
  element.setAttribute("aria-haspopup", "dialog");
  return { element };
}
