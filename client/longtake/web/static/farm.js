// The farm page: hosts with their slots and what they render now, and queues with what waits in them.

import * as api from "./api.js";
import { fill, h, setText } from "./dom.js";
import { ago, bytes, count, counted, duration, pill, time } from "./format.js";
import { copyable, emptyState } from "./ui.js";

/** @typedef {{job: string, name?: string, chunk: number, frames: number, frames_done: number, frozen: boolean, message: string, memory_bytes: number}} Running */
/** @typedef {{name: string, slots: number|null, running: Running[], last_heard: string|null, is_silent: boolean, queues: string[]}} Host */
/** @typedef {{name: string, backlog: number|null, oldest_wait_seconds: number|null, pollers: number|null}} Queue */

const EVERY_MS = 3000;
// Slots drawn one by one; a host with more shows a number.
const MOST_SLOTS = 64;

/** @param {HTMLElement} root @param {import("./app.js").Context} context */
export function mount(root, context) {
  context.title("Farm");
  const { signal } = context;
  const facts = h("dl", { class: "facts live" });
  const hosts = h("div", { class: "hosts live" });
  const queues = h("div", { class: "live" });
  const search = h("input", { type: "search", "aria-label": "Filter hosts", placeholder: "host, job or queue", title: "Filter hosts (/)", "aria-keyshortcuts": "/", on: { input: () => show() } });
  const searchBox = h("span", { class: "sp" }, search);
  fill(
    root,
    h("section", { class: "panel pad farm-head" }, h("h1", {}, "Farm"), facts),
    h("section", { class: "panel sec", "aria-label": "Hosts" }, h("header", {}, h("h2", {}, "Hosts"), searchBox), hosts),
    h("section", { class: "panel sec", "aria-label": "Queues" }, h("header", {}, h("h2", {}, "Queues"), h("span", { class: "faint" }, "what waits for a worker")), queues),
  );
  /** @type {Map<string, HostView>} */
  const views = new Map();
  /** @type {{hosts: Host[], queues: Queue[]} | null} */
  let farm = null;
  let shownQueues = "";
  context.keys([{ keys: ["/"], label: "Filter hosts", group: "Farm", run: () => search.focus() }]);

  function show() {
    if (!farm) return;
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const all = [...farm.hosts].sort(byUrgency);
    const shown = all.filter((host) => words.every((word) => textOf(host).includes(word)));
    const slots = all.reduce((sum, host) => sum + (host.slots ?? 0), 0);
    const running = all.reduce((sum, host) => sum + host.running.length, 0);
    const silent = all.filter(isSilent).length;
    const waiting = farm.queues.reduce((sum, queue) => sum + (queue.backlog ?? 0), 0);
    fill(
      facts,
      fact(count(all.length), all.length === 1 ? "host" : "hosts"),
      fact(slots ? `${count(running)} of ${count(slots)}` : count(running), slots ? "slots render" : "chunks render"),
      fact(count(waiting), waiting === 1 ? "task waits" : "tasks wait"),
      silent ? fact(count(silent), "not heard of", "bad") : null,
    );
    searchBox.hidden = all.length < 4;
    for (const [name, view] of views) if (!shown.some((host) => host.name === name)) (view.element.remove(), views.delete(name));
    if (!shown.length) {
      if (!hosts.querySelector(".empty")) fill(hosts, all.length ? emptyState("No host matches") : teach());
    } else {
      hosts.querySelector(".empty")?.remove();
      let place = hosts.firstElementChild;
      for (const host of shown) {
        let view = views.get(host.name);
        if (!view) views.set(host.name, (view = new HostView(host)));
        view.update(host);
        // What stands where it belongs is not moved: it may have the focus.
        if (view.element === place) place = place.nextElementSibling;
        else hosts.insertBefore(view.element, place);
      }
    }
    const told = JSON.stringify(farm.queues);
    if (told !== shownQueues) fill(queues, farm.queues.length ? queueTable(farm.queues) : h("p", { class: "soft" }, "No queue has been asked for yet."));
    shownQueues = told;
  }

  async function watch() {
    while (!signal.aborted) {
      if (!document.hidden) {
        try {
          farm = await api.get("/farm", { signal });
          show();
        } catch {
          if (!farm && !signal.aborted && !hosts.childElementCount) fill(hosts, h("p", { class: "soft" }, "Nothing is known of hosts yet."));
        }
      }
      await api.pause(EVERY_MS, signal);
    }
  }
  void watch();
}

/** @param {string} value @param {string} label @param {string} [kind] */
const fact = (value, label, kind = "") => h("div", {}, h("dt", {}, label), h("dd", { class: kind }, value));

/** @param {Host} host */
const isSilent = (host) => host.is_silent;
/** @param {Host} host */
const textOf = (host) => [host.name, ...host.queues, ...host.running.map((one) => `${one.job} ${one.name ?? ""}`)].join("\n").toLowerCase();

/** @param {Host} a @param {Host} b */
function byUrgency(a, b) {
  return Number(isSilent(b)) - Number(isSilent(a)) || a.name.localeCompare(b.name, "en", { numeric: true });
}

class HostView {
  /** @param {Host} host */
  constructor(host) {
    this.state = h("span", {});
    this.slots = h("div", { class: "slots", role: "img" });
    this.slotsText = h("span", { class: "soft nowrap" });
    this.heard = h("span", { class: "soft nowrap" });
    this.queues = h("span", { class: "faint cut" });
    this.running = h("ul", { class: "running" });
    /** @type {RunningLine[]} */
    this.lines = [];
    this.element = h(
      "article",
      { class: "host", "aria-label": `Host ${host.name}` },
      h("div", { class: "host-head" }, h("h3", { class: "cut", title: host.name }, host.name), this.state, h("span", { class: "sp" }), this.heard),
      h("div", { class: "host-slots" }, this.slots, this.slotsText),
      this.running,
      this.queues,
    );
  }

  /** @param {Host} host */
  update(host) {
    const silent = isSilent(host);
    const busy = host.running.length;
    fill(this.state, silent ? pill("down", "not heard of") : !busy ? pill("pending", "idle") : host.running.every((one) => one.frozen) ? pill("frozen", "frozen") : pill("running", "rendering"));
    this.element.classList.toggle("silent", silent);
    fill(this.heard, host.last_heard ? time(host.last_heard, ago(host.last_heard)) : "never heard of");
    const slots = Math.max(host.slots ?? 0, busy);
    setText(this.slotsText, host.slots ? `${count(busy)} of ${counted(host.slots, "slot")}` : `${count(busy)} running`);
    this.slots.setAttribute("aria-label", this.slotsText.textContent ?? "");
    this.slots.hidden = slots > MOST_SLOTS;
    if (slots <= MOST_SLOTS) {
      fill(this.slots, Array.from({ length: slots }, (_, index) => {
        const one = host.running[index];
        return h("i", { class: "cell", dataset: { look: !one ? "todo" : one.frozen ? "frozen" : "running" } });
      }));
    }
    const lines = host.running.slice(0, MOST_SLOTS);
    while (this.lines.length > lines.length) this.lines.pop()?.element.remove();
    lines.forEach((one, index) => {
      if (!this.lines[index]) this.running.append((this.lines[index] = new RunningLine()).element);
      this.lines[index].update(one);
    });
    setText(this.queues, host.queues.length ? `takes from ${host.queues.join(", ")}` : "");
    this.queues.hidden = !host.queues.length;
    this.queues.title = host.queues.join("\n");
  }
}

class RunningLine {
  constructor() {
    this.link = h("a", { class: "cut" });
    this.chunk = h("span", { class: "soft nowrap" });
    this.part = h("span", { class: "run" });
    this.frames = h("span", { class: "soft nowrap num" });
    this.memory = h("span", { class: "soft nowrap num" });
    this.element = h("li", {}, this.link, this.chunk, h("span", { class: "bar small", "aria-hidden": "true" }, this.part), this.frames, this.memory);
  }

  /** @param {Running} one */
  update(one) {
    const name = one.name || one.job;
    setText(this.link, name);
    this.link.href = `/jobs/${encodeURIComponent(one.job)}?chunk=${one.chunk}`;
    this.link.title = `${name}, chunk ${one.chunk}`;
    setText(this.chunk, `chunk ${count(one.chunk)}`);
    this.part.style.width = `${one.frames ? (100 * one.frames_done) / one.frames : 0}%`;
    this.part.className = one.frozen ? "run ice" : "run";
    setText(this.frames, one.frozen ? "frozen" : one.frames ? `${count(one.frames_done)} of ${count(one.frames)}` : "");
    setText(this.memory, one.memory_bytes ? bytes(one.memory_bytes) : "");
    this.element.title = one.message;
    this.frames.title = one.frames ? `${count(one.frames_done)} of ${counted(one.frames, "frame")}` : "";
  }
}

/** @param {Queue[]} queues */
function queueTable(queues) {
  return h(
    "div",
    { class: "scroll-x", tabIndex: 0, role: "group", "aria-label": "Table of queues" },
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, ["Queue", "Waits", "Oldest waits", "Workers"].map((word, index) => h("th", { scope: "col", class: index ? "num" : "" }, word)))),
      h("tbody", {}, queues.map((queue) =>
        h(
          "tr",
          {},
          h("td", { class: "mono" }, queue.name),
          h("td", { class: "num" }, queue.backlog === null ? "–" : count(queue.backlog)),
          h("td", { class: "num" }, queue.backlog && queue.oldest_wait_seconds !== null ? duration(queue.oldest_wait_seconds) : "–"),
          h("td", { class: "num" }, queue.pollers ? count(queue.pollers) : pill("down", "none: nothing takes from it")),
        ),
      )),
    ),
  );
}

function teach() {
  return emptyState(
    "No worker is heard of",
    h("p", { class: "soft" }, "A worker is a process on each host that renders. Start one beside a Temporal server of its own, or one that joins this farm:"),
    copyable("make dev\npython worker.py", "commands that start a worker"),
  );
}
