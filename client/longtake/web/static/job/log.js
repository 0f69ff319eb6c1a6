// The log of one try, as it grows: its end first, then what is added, with bounded memory.

import { fill, h, setText } from "../dom.js";
import { bytes, count } from "../format.js";
import { Style, parseLine, plain, weight } from "./ansi.js";

// What is read at first, and at most at once.
const TAIL_BYTES = 64 * 1024;
const MOST_LINES = 5000;
const MOST_LINE_LENGTH = 4000;
const LOOK_EVERY_MS = 1000;

/**
 * @param {import("../app.js").Context} context
 * @param {{path: string, name: string, grows: () => boolean, signal: AbortSignal}} log `path` below /api/v1
 */
export function logView(context, { path, name, grows, signal }) {
  const { api } = context;
  const text = h("pre", { class: "log", tabIndex: 0, role: "log", "aria-live": "off", "aria-label": `Log ${name}` });
  const size = h("span", { class: "faint log-size" });
  const follow = h("button", { class: "btn", type: "button", "aria-pressed": "true", title: "Stay at the end as the log grows" }, "Follow");
  const next = h("button", { class: "btn", type: "button", hidden: true, title: "Go to the next line that matters" }, "Next error");
  const whole = h("a", { class: "btn", href: api.address(path), target: "_blank", rel: "noopener", title: "All of it as text" }, "All");
  const element = h("div", { class: "log-view" }, h("div", { class: "row log-tools" }, size, h("span", { class: "sp row" }, next, follow, whole)), text);

  let style = new Style();
  /** Bytes read so far. */
  let read = 0;
  let rest = "";
  let isFollowing = true;
  let scrolledTo = 0;
  /** @type {TextDecoder} */
  let decoder = new TextDecoder();

  function setFollowing(/** @type {boolean} */ value) {
    isFollowing = value;
    follow.setAttribute("aria-pressed", String(value));
    if (value) text.scrollTop = text.scrollHeight;
  }
  follow.addEventListener("click", () => setFollowing(!isFollowing));
  // Scrolling up lets go of the end, scrolling down to it takes it up again.
  text.addEventListener("wheel", (event) => void (event.deltaY < 0 && isFollowing && setFollowing(false)), { passive: true });
  text.addEventListener("scroll", () => {
    if (text.isConnected) scrolledTo = text.scrollTop;
    if (!isFollowing && text.scrollTop + text.clientHeight >= text.scrollHeight - 4) setFollowing(true);
  }, { passive: true });
  text.addEventListener("keydown", (event) => void (["ArrowUp", "PageUp", "Home"].includes(event.key) && setFollowing(false)));
  next.addEventListener("click", () => {
    setFollowing(false);
    const bad = /** @type {HTMLElement[]} */ ([...text.querySelectorAll(".bad")]);
    const found = bad.find((line) => line.offsetTop > text.scrollTop + 8) ?? bad[0];
    if (found) text.scrollTop = found.offsetTop - 4;
  });

  /** @param {string} added */
  function append(added) {
    const lines = (rest + added).split("\n");
    rest = lines.pop() ?? "";
    // A line without an end, as progress writes it, is shown as it stands.
    if (rest.length > MOST_LINE_LENGTH) {
      lines.push(rest);
      rest = "";
    }
    text.querySelector(".open")?.remove();
    text.append(...lines.slice(-MOST_LINES).map((line) => makeLine(line, style)));
    if (rest) {
      const open = makeLine(rest, Object.assign(new Style(), style));
      open.classList.add("open");
      text.append(open);
    }
    while (text.childElementCount > MOST_LINES) text.firstElementChild?.remove();
    next.hidden = !text.querySelector(".bad");
    if (isFollowing) text.scrollTop = text.scrollHeight;
  }

  /** Read what is there now; true where it has grown. */
  async function look() {
    const isFirst = read === 0;
    // One byte is asked for again: an answer without any would be an error.
    const answer = await api.ask(path, isFirst
      ? { query: { tail: TAIL_BYTES }, headers: { accept: "text/plain" }, signal }
      : { headers: { accept: "text/plain", range: `bytes=${read - 1}-` }, signal });
    let body = new Uint8Array(await answer.arrayBuffer());
    const begins = Number(answer.headers.get("x-log-offset") ?? 0);
    const all = Number(answer.headers.get("x-log-size") ?? begins + body.length);
    setText(size, bytes(all));
    if (isFirst) {
      if (begins > 0) {
        const cut = body.indexOf(10) + 1;
        body = body.subarray(cut);
        fill(text, h("span", { class: "line faint" }, `… ${bytes(begins + cut)} before this`));
      }
      read = all;
    } else {
      if (begins >= read) text.append(h("span", { class: "line faint" }, `… ${bytes(begins - read + 1)} are left out here: it printed more than is kept`));
      else body = body.subarray(read - begins);
      read = Math.max(read, begins + new Uint8Array(body.buffer).length);
    }
    if (body.length) append(decoder.decode(body, { stream: true }));
    return body.length > 0;
  }

  function restart() {
    fill(text);
    read = 0;
    rest = "";
    style = new Style();
    decoder = new TextDecoder();
  }

  async function run() {
    let wait = LOOK_EVERY_MS;
    while (!signal.aborted) {
      const grew = grows();
      try {
        const more = await look();
        wait = more ? LOOK_EVERY_MS : Math.min(wait * 1.5, 5 * LOOK_EVERY_MS);
      } catch (error) {
        if (signal.aborted) return;
        const problem = /** @type {any} */ (error);
        if (problem.status === 404 && !read) setText(size, grew ? "nothing is written yet" : "there is no log");
        // A log that is shorter now is another one.
        else if (problem.status === 416 && read) restart();
        else if (problem.status !== 416) setText(size, `could not be read: ${problem.message}`);
        wait = Math.min(wait * 1.5, 5 * LOOK_EVERY_MS);
      }
      follow.hidden = !grew;
      if (!grew) {
        if (!read && !text.childElementCount) fill(text, h("span", { class: "line faint" }, "it is empty"));
        return;
      }
      await api.pause(wait, signal);
    }
  }
  void run();
  return {
    element,
    /** What is moved within a page forgets how far it was scrolled. */
    restore() {
      text.scrollTop = isFollowing ? text.scrollHeight : scrolledTo;
    },
  };
}

/** @param {string} line @param {Style} style */
function makeLine(line, style) {
  const cut = line.length > MOST_LINE_LENGTH ? `${line.slice(0, MOST_LINE_LENGTH)} … ${count(line.length - MOST_LINE_LENGTH)} more` : line;
  const nodes = parseLine(cut, style);
  return h("span", { class: `line ${weight(plain(cut))}` }, nodes.length ? nodes : "\u200b");
}
