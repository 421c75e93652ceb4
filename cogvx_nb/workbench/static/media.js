// Pictures and videos of results, as blob URLs that are kept for a while.

const MEDIA_KEPT = { poster: 600, clip: 60, video: 16, strip: 60, input: 60 };
const MEDIA_BATCH = 16; // posters that are asked for at once
const MEDIA_PATIENCE = 5000; // milliseconds until a piece that a server dropped is asked for again
const MEDIA_DRAWING = 20000; // the same for what has to be drawn first

function Media(link) {
  const caches = Object.fromEntries(Object.keys(MEDIA_KEPT).map((kind) => [kind, new Map()]));

  /** The URL of a picture or video; asked for once while it is kept. */
  function kept(kind, path, fetchBlob) {
    const cache = caches[kind];
    const known = cache.get(path);
    cache.delete(path);
    const url = known ?? fetchBlob().then((blob) => (blob ? URL.createObjectURL(blob) : ""));
    if (!known) url.catch(() => cache.delete(path));
    cache.set(path, url);
    if (cache.size > MEDIA_KEPT[kind]) {
      const [oldest, old] = cache.entries().next().value;
      cache.delete(oldest);
      old.then((address) => address && URL.revokeObjectURL(address), () => {});
    }
    return url;
  }

  const wanted = new Map(); // path → [resolve, reject] of posters not asked for yet
  let timer = 0;

  function askForPosters() {
    timer = 0;
    const batch = [...wanted.entries()].slice(0, MEDIA_BATCH);
    for (const [path] of batch) wanted.delete(path);
    if (wanted.size) timer = setTimeout(askForPosters, 20);
    link.ask("media.posters", { paths: batch.map(([path]) => path) }).then(
      ({ buffers }) =>
        batch.forEach(([, [resolve]], place) => {
          const data = buffers[place];
          resolve(data?.byteLength ? new Blob([data], { type: "image/webp" }) : null);
        }),
      (error) => batch.forEach(([, [, reject]]) => reject(error)),
    );
  }

  function poster(path) {
    return kept(
      "poster",
      path,
      () =>
        new Promise((resolve, reject) => {
          wanted.set(path, [resolve, reject]);
          if (!timer) timer = setTimeout(askForPosters, 10);
        }),
    );
  }

  /** An answer, asked for again where a server drops what comes too fast. */
  async function patient(action, args, patience) {
    for (let attempt = 0; ; attempt++) {
      const answer = link.ask(action, args);
      const late = new Promise((resolve) => setTimeout(resolve, patience, null));
      const got = await Promise.race([answer, late]);
      if (got) return got;
      if (attempt === 5) return answer;
    }
  }

  async function whole(path) {
    const parts = [];
    let size = 1;
    for (let offset = 0; offset < size; ) {
      const { data, buffers } = await patient("media.video", { path, offset }, MEDIA_PATIENCE);
      size = data.size;
      if (!buffers[0]?.byteLength) break;
      parts.push(buffers[0]);
      offset += buffers[0].byteLength;
    }
    return new Blob(parts, { type: "video/mp4" });
  }

  const picture = (action, type) => (path) =>
    patient(action, { path }, MEDIA_DRAWING).then(({ buffers }) => new Blob(buffers, { type }));
  const strip = picture("media.strip", "image/png");
  const clip = picture("gallery.clip", "image/webp");
  const input = (path, field) =>
    patient("input.thumbnail", { path, field }, MEDIA_DRAWING).then(({ buffers: [data] }) => (data?.byteLength ? new Blob([data], { type: "image/webp" }) : null));

  return {
    poster,
    clip: (path) => kept("clip", path, () => clip(path)),
    video: (path) => kept("video", path, () => whole(path)),
    strip: (path) => kept("strip", path, () => strip(path)),
    input: (path, field) => kept("input", `${field} ${path}`, () => input(path, field)),
    close() {
      for (const cache of Object.values(caches))
        for (const url of cache.values())
          url.then((address) => address && URL.revokeObjectURL(address), () => {});
    },
  };
}
