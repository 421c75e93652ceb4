// Files that are dropped on the page, pasted, or chosen.

const DROP_PIECE = 1 << 20; // bytes of a message
const DROP_LONG = 16 * DROP_PIECE; // bytes from which on sending takes a while

/**
 * Take files that are dropped on `root` or pasted into it: settings, a picture, a clip or a LoRA. Returns a
 * function that takes a file, for a field or, without one, for what is in it.
 */
function bindDrops(root, app) {
  const isFile = (event) => event.dataTransfer?.types.includes("Files");
  for (const kind of ["dragenter", "dragover"])
    root.addEventListener(kind, (event) => {
      if (!isFile(event)) return;
      event.preventDefault();
      event.stopPropagation();
      mark(slotOf(event));
    });
  root.addEventListener("dragleave", (event) => {
    if (!root.contains(event.relatedTarget)) mark(undefined);
  });
  root.addEventListener("drop", (event) => {
    mark(undefined);
    take(event, event.dataTransfer?.files, slotOf(event)?.dataset.field);
  });
  root.addEventListener("paste", (event) => {
    // Spreadsheets and Word put a picture of what is copied beside its text.
    if (event.clipboardData?.types.includes("text/plain") && isTyping(event.target)) return;
    take(event, event.clipboardData?.files, slotOf(event)?.dataset.field);
  });

  const slotOf = (event) => event.target.closest?.(".cogvx-input[data-field]");

  /** Show where a file would go: to a field, to the page (null), or nowhere (undefined). */
  function mark(slot) {
    root.classList.toggle("cogvx-dropping", slot === null);
    for (const one of root.querySelectorAll(".cogvx-input")) one.classList.toggle("cogvx-input-dropping", one === slot);
  }

  function take(event, files, field) {
    const [file, ...others] = files ?? [];
    if (!file) return;
    event.preventDefault();
    event.stopPropagation();
    if (others.length) app.tell(`Only ${file.name} was taken: drop them one by one.`);
    give(file, field);
  }

  async function send(file, field) {
    const { name, size } = file;
    let answer = { data: null };
    for (let offset = 0; !answer.data; offset += DROP_PIECE) {
      const bytes = await file.slice(offset, offset + DROP_PIECE).arrayBuffer();
      answer = await app.ask("drop.piece", { name, size, offset, field }, bytes);
      if (offset >= size) break;
    }
    return answer;
  }

  let last = Promise.resolve(); // the kernel puts the pieces of one file together at a time

  function give(file, field = "") {
    if (file.size > DROP_LONG) app.tell(`Reading ${file.name}…`);
    const more = ({ start_as: other }) => (other ? [other === "video" ? "Use as clip" : "Use as image", () => give(file, other)] : null);
    const now = last.then(() => app.change(() => send(file, field), more));
    last = now.catch(() => {});
    return now;
  }

  return give;
}
