// Frames of clips, decoded once and drawn in step: beside each other, wiped, blinking, subtracted.

const COMPARE_BYTES = 512 * 2 ** 20; // of all decoded frames; larger ones are made smaller
const COMPARE_RATE = 24; // frames a second while they are taken
const COMPARE_PATIENCE = 8000; // milliseconds for a frame

/** An event of a video, or an error. */
function compareEvent(video, name) {
  return new Promise((resolve, reject) => {
    const fail = () => reject(new Error("this browser can't play the video"));
    const timer = setTimeout(fail, COMPARE_PATIENCE);
    video.addEventListener(name, () => (clearTimeout(timer), resolve()), { once: true });
    video.addEventListener("error", () => (clearTimeout(timer), fail()), { once: true });
  });
}

/** All frames of a clip as pictures; `wanted()` says whether they still are. */
async function compareDecode(url, clip, share, wanted) {
  const video = h("video", { preload: "auto" });
  video.muted = true;
  const ready = compareEvent(video, "loadeddata");
  video.src = url;
  await ready;
  const bytes = 4 * video.videoWidth * video.videoHeight * clip.frames;
  const scale = Math.min(1, Math.sqrt(share / bytes));
  const size = scale < 1 ? { resizeWidth: Math.round(scale * video.videoWidth), resizeHeight: Math.round(scale * video.videoHeight) } : {};
  const pictures = new Array(clip.frames).fill(null);
  const take = (number) => (pictures[number] ??= createImageBitmap(video, size));
  try {
    await comparePlay(video, clip, take, wanted);
    // What was skipped. Each seek decodes from the last key frame on, so it isn't the first choice.
    for (let number = 0; number < clip.frames && wanted(); number++) {
      if (pictures[number]) continue;
      const there = compareEvent(video, "seeked");
      video.currentTime = (number + 0.5) / clip.fps; // the middle of its time
      await there;
      take(number);
    }
    return await Promise.all(pictures);
  } finally {
    video.removeAttribute("src");
    video.load();
  }
}

/** Play a clip once, as fast as its frames can be taken one by one. */
function comparePlay(video, clip, take, wanted) {
  if (!video.requestVideoFrameCallback) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, (3000 * clip.frames) / COMPARE_RATE + 1000);
    const done = () => (clearTimeout(timer), video.pause(), resolve());
    const see = (now, { mediaTime }) => {
      const number = Math.round(mediaTime * clip.fps);
      if (number < clip.frames) take(number);
      if (number >= clip.frames - 1 || !wanted()) done();
      else video.requestVideoFrameCallback(see);
    };
    video.requestVideoFrameCallback(see);
    video.addEventListener("ended", () => setTimeout(done, 50), { once: true });
    video.playbackRate = Math.min(16, COMPARE_RATE / clip.fps);
    video.play().catch(done);
  });
}

/** The decoded frames of the clips that are compared, by path. */
function CompareFrames(app) {
  const kept = new Map(); // path → {pictures, failed}
  let last = Promise.resolve(); // the end of what is being read

  function free(path) {
    for (const picture of kept.get(path)?.pictures ?? []) picture.close();
    kept.delete(path);
  }

  /** Decode what is not there yet, and free what isn't compared any more. */
  async function load(clips, onReady) {
    const paths = new Set(clips.map((clip) => clip.path));
    for (const path of [...kept.keys()]) if (!paths.has(path)) free(path);
    for (const clip of clips) {
      if (kept.has(clip.path)) continue;
      const entry = { pictures: [], failed: "" };
      kept.set(clip.path, entry);
      const turn = last;
      last = read(clip, entry, turn, COMPARE_BYTES / clips.length).then(onReady);
    }
    await last;
  }

  /** One clip is decoded after the other, while the next ones come from the kernel. */
  async function read(clip, entry, turn, share) {
    const wanted = () => kept.get(clip.path) === entry;
    try {
      const url = await app.media.video(clip.path);
      await turn;
      if (!wanted()) return;
      const pictures = await compareDecode(url, clip, share, wanted);
      if (wanted()) entry.pictures = pictures;
      else pictures.forEach((picture) => picture?.close());
    } catch (error) {
      entry.failed = error.message;
      await turn;
    }
  }

  return {
    load,
    failed: (clip) => kept.get(clip.path)?.failed ?? "",
    ready: (clip) => Boolean(kept.get(clip.path)?.pictures.length),
    /** The frame of a clip at a time in seconds; the last one stays. */
    at(clip, seconds) {
      const pictures = kept.get(clip.path)?.pictures ?? [];
      const number = Math.min(Math.floor(seconds * clip.fps + 1e-6), pictures.length - 1);
      return pictures[number] ?? null;
    },
    free: () => [...kept.keys()].forEach(free),
  };
}

/** Draw a frame on a canvas of its size, or of another's. */
function compareDraw(canvas, picture, like = picture) {
  if (!picture) return;
  if (canvas.width !== like.width || canvas.height !== like.height) {
    canvas.width = like.width;
    canvas.height = like.height;
  }
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
}

/** The left part of one frame and the right part of another, which share a border. */
function compareWipe(canvas, left, right, share) {
  compareDraw(canvas, right, left);
  if (!left || !right) return;
  const width = Math.round(share * canvas.width);
  if (width) canvas.getContext("2d").drawImage(left, 0, 0, width, left.height, 0, 0, width, canvas.height);
}

/** The difference of two frames times a gain: black where they are equal. */
function compareSubtract(canvas, one, other, gain) {
  if (!one || !other) return;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  compareDraw(canvas, other, one);
  const below = context.getImageData(0, 0, canvas.width, canvas.height);
  context.drawImage(one, 0, 0);
  const above = context.getImageData(0, 0, canvas.width, canvas.height);
  const [a, b] = [above.data, below.data];
  for (let place = 0; place < a.length; place++)
    if (place % 4 !== 3) a[place] = Math.abs(a[place] - b[place]) * gain;
  context.putImageData(above, 0, 0);
}

/** Frames and frames a second of clips in step: the longest and the fastest. */
function comparePace(clips) {
  const fps = Math.max(1, ...clips.map((clip) => clip.fps));
  return { fps, count: Math.max(1, ...clips.map((clip) => Math.round((clip.frames * fps) / clip.fps))) };
}
