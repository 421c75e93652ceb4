// Files that are dropped on the page.

const DROP_PIECE = 1 << 20; // bytes of a message

/** Load the settings of an mp4, a JSON or a PNG that is dropped on `root`; `values` of the form, to undo it. */
function bindDrops(root, app, values) {
  for (const kind of ["dragenter", "dragover"])
    root.addEventListener(kind, (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      event.stopPropagation();
      root.classList.add("cogvx-dropping");
    });
  root.addEventListener("dragleave", (event) => {
    if (!root.contains(event.relatedTarget)) root.classList.remove("cogvx-dropping");
  });
  root.addEventListener("drop", (event) => {
    root.classList.remove("cogvx-dropping");
    const [file] = event.dataTransfer?.files ?? [];
    if (!file) return;
    event.preventDefault();
    event.stopPropagation();
    send(file);
  });

  async function send(file) {
    const before = values();
    try {
      let answer = { data: null };
      for (let offset = 0; !answer.data; offset += DROP_PIECE) {
        const bytes = await file.slice(offset, offset + DROP_PIECE).arrayBuffer();
        const { name, size } = file;
        answer = await app.ask("drop.piece", { name, size, offset }, bytes);
        if (offset >= size) break;
      }
      app.filled(answer, before);
    } catch (error) {
      app.tell(error.message, "error");
    }
  }
}
