// Play what is there: the finished film as a file, or the growing preview of what lies side by side.

import { fill, h } from "../dom.js";
import { bytes } from "../format.js";
import { toast } from "../ui.js";
import { MediaStream } from "./mediastream.js";

/** @typedef {import("./model.js").JobModel} JobModel */
/** @typedef {import("../app.js").Context} Context */

/** @param {JobModel} model @param {Context} context @param {HTMLElement} screen where it is played */
export function playerButton(model, context, screen) {
  const { api, id, signal } = context;
  const button = h("button", { class: "btn", type: "button", on: { click: () => void (screen.childElementCount ? close() : open()) } });
  const download = h("a", { class: "btn", hidden: true, download: "" }, "Download");
  /** Path of the finished film in the store; null while there is none. @type {Promise<string|null>|null} */
  let film = null;
  let leaving = new AbortController();
  signal.addEventListener("abort", close);

  function close() {
    leaving.abort();
    const video = screen.querySelector("video");
    video?.pause();
    video?.removeAttribute("src");
    video?.load();
    fill(screen);
    show();
  }

  function show() {
    const isOpen = screen.childElementCount > 0;
    const isFilm = model.status.state === "completed" && !!model.status.result?.output;
    if (isFilm && !film) film = findFilm().catch(() => (film = null));
    else if (!isFilm) film = null;
    if (!isFilm) download.hidden = true;
    // What has no pictures has mostly nothing to play; a job that wants none may have.
    button.hidden = !isOpen && (!model.status.completed_frames || (!model.pictures.length && !model.status.result?.output && model.document?.pictures !== "none"));
    const words = isOpen ? "Close" : isFilm ? "▶ Play the film" : "▶ Play what is there";
    if (button.textContent !== words) button.textContent = words;
  }

  async function open() {
    leaving = new AbortController();
    const mine = leaving.signal;
    fill(screen, h("p", { class: "soft" }, "…"));
    show();
    try {
      const path = await film;
      if (mine.aborted) return;
      if (path) return play(api.address(api.job(id, "outputs", "file"), { path }), path, mine);
      await playPreview(mine);
    } catch (error) {
      if (!mine.aborted) showTrouble(/** @type {any} */ (error));
    }
  }

  /** The first of its films, which are listed before other outputs. */
  async function findFilm() {
    const { outputs } = await api.get(api.job(id, "outputs"), { query: { limit: 20 }, signal });
    const found = outputs.find((/** @type {any} */ one) => one.kind === "film");
    download.hidden = !found;
    if (!found) return null;
    download.href = api.address(api.job(id, "outputs", "file"), { path: found.path });
    download.download = found.path.split("/").pop() ?? "";
    download.title = `${found.path}, ${bytes(found.size_bytes)}`;
    return found.path;
  }

  /** @param {string} address @param {string} name @param {AbortSignal} mine */
  function play(address, name, mine) {
    const video = makeVideo(name);
    video.src = address;
    video.addEventListener("error", () => void (!mine.aborted && offerProxy(video.error?.message ?? "")), { once: true });
    linkFrames(video, 0, mine);
    fill(screen, video);
    show();
    void video.play().catch(() => {});
  }

  /**
   * Light up the frame that is played, and play from the frame that is selected.
   * @param {HTMLVideoElement} video @param {number} first place of its first frame @param {AbortSignal} mine
   */
  function linkFrames(video, first, mine) {
    const { layout } = model;
    const rate = readRate(model.document?.fps);
    if (!rate || !layout.isExact) return;
    const select = () => {
      if (model.selection && model.selection.place >= first) video.currentTime = (model.selection.place - first + 0.5) / rate;
    };
    model.addEventListener("select", select, { signal: mine });
    if (model.selection) video.addEventListener("loadeddata", select, { once: true });
    video.addEventListener("timeupdate", () => {
      const place = Math.min(layout.frames - 1, first + Math.floor(video.currentTime * rate));
      if (!mine.aborted && !video.paused) model.setHover({ source: "player", place, chunk: layout.chunkAt(place) });
    });
    video.addEventListener("pause", () => model.setHover(null));
  }

  /** @param {string} name */
  function makeVideo(name) {
    return h("video", { controls: true, playsInline: true, preload: "auto", "aria-label": `Film ${name}` });
  }

  /** @param {AbortSignal} mine @param {boolean} [proxy] */
  async function playPreview(mine, proxy = false) {
    const path = api.job(id, "preview.m3u8");
    const query = proxy ? { proxy: 1 } : {};
    // Asked once by ourselves: its problem says more than the error of a video element.
    const answer = await api.ask(path, { headers: { accept: "application/vnd.apple.mpegurl" }, query, signal: mine });
    const first = Number(new URL(answer.url).searchParams.get("from") ?? 0);
    const video = makeVideo("so far");
    linkFrames(video, model.layout.placeOf(first), mine);
    fill(screen, video, h("p", { class: "faint screen-note" }, "What is finished without a gap, from the first chunk on; it grows as chunks are done."));
    show();
    const address = api.address(path, query);
    if (MediaStream.isSupported) {
      const stream = new MediaStream(video, address, mine);
      stream.addEventListener("unplayable", () => void offerProxy(stream.trouble));
      void stream.run();
    } else {
      video.src = address;
      video.addEventListener("error", () => void (!mine.aborted && offerProxy(video.error?.message ?? "")), { once: true });
    }
    void video.play().catch(() => {});
  }

  /** @param {import("../api.js").Problem} problem */
  function showTrouble(problem) {
    if (problem.type?.includes("proxy")) return offerProxy(problem.message);
    fill(screen, h("p", { class: "soft" }, `Not to be played yet: ${problem.message}.`));
    show();
  }

  /** Say that the browser cannot play it, and what can be done. @param {string} detail */
  function offerProxy(detail) {
    leaving.abort();
    const again = h("button", { class: "btn main", type: "button" }, "Make a small copy");
    again.addEventListener("click", async () => {
      leaving = new AbortController();
      again.disabled = true;
      try {
        await playPreview(leaving.signal, true);
      } catch (error) {
        toast("The copy could not be made", { kind: "error", detail: /** @type {Error} */ (error).message });
        again.disabled = false;
      }
    });
    fill(screen, h("div", { class: "proxy-offer" }, h("p", {}, h("b", {}, "Browsers do not play this as it is. "), "A small copy of what is finished can be made as you watch; the film itself stays as it is."), detail && h("p", { class: "faint" }, detail), h("p", { class: "row" }, again)));
    show();
  }

  model.on("status pictures document", show, signal);
  show();
  return [download, button];
}

/** Frames a second: `24`, `"24000/1001"`. @param {any} rate */
function readRate(rate) {
  const [over, under] = String(rate ?? "").split("/").map(Number);
  return over > 0 ? over / (under || 1) : 0;
}
