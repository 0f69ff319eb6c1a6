// A table of any number of jobs, of which those in sight are elements: 5,000 rows cost what 30 do.

import * as api from "./api.js";
import { fill, h, oncePerFrame, setText } from "./dom.js";
import { clock, count, duration, fullTime, jobLook, jobTrouble, jobWords, percent, progressBar, secondsToGo, updateBar } from "./format.js";
import { LARGEST_FIRST } from "./jobfilter.js";

/** @typedef {import("./format.js").JobStatus} JobStatus */

/** Columns: key of the sort, heading, class. @type {Array<[string, string, string]>} */
const COLUMNS = [
  ["name", "Job", "c-name"],
  ["state", "State", "c-state"],
  ["progress", "Progress", "c-progress"],
  ["running", "Running", "c-running num"],
  ["eta", "To go", "c-eta num"],
  ["failed", "Failed", "c-failed num"],
  ["created", "Submitted", "c-created num"],
  ["by", "Submitted by", "c-by"],
];

// Rows beyond both edges, so that a fast wheel shows no gaps.
const SPARE_ROWS = 8;
// A picture is asked for anew at most so often, and so is a store that does not answer.
const PICTURE_EVERY_MS = 10_000;
// A store that does not answer keeps a connection for seconds, and browsers have six to a server: the others are for
// what somebody does meanwhile.
const PICTURES_AT_ONCE = 3;

export class JobTable {
  /**
   * @param {{onSort: (sort: string) => void, onToggle: (id: string, event: MouseEvent) => void,
   *   onToggleAll: () => void, selectable: boolean}} options
   */
  constructor({ onSort, onToggle, onToggleAll, selectable }) {
    this.onToggle = onToggle;
    this.selectable = selectable;
    /** @type {JobStatus[]} */
    this.jobs = [];
    /** @type {Set<string>} */
    this.selected = new Set();
    this.cursor = "";
    this.sort = "";
    /** @type {Map<string, Row>} */
    this.rows = new Map();
    /** @type {Row[]} rows that went out of sight, for those that come into it: to make one takes 1 ms */
    this.spare = [];
    this.rowHeight = 0;
    this.pictures = new PictureQueue(() => this.draw());
    this.all = h("input", { type: "checkbox", "aria-label": "Select all that are shown (a)", title: "Select all that are shown (a)", on: { click: onToggleAll } });
    this.heads = COLUMNS.map(([key, label, kind]) => {
      const button = h("button", { type: "button", class: "sort", title: `Sort by ${label.toLowerCase()}` }, label);
      button.addEventListener("click", () => onSort(this.nextSort(key)));
      return h("th", { role: "columnheader", scope: "col", class: kind, dataset: { key } }, button);
    });
    const head = h(
      "tr",
      { role: "row", "aria-rowindex": "1" },
      selectable && h("th", { role: "columnheader", class: "c-check" }, this.all),
      h("th", { role: "columnheader", class: "c-picture" }, h("span", { class: "unseen" }, "Picture")),
      this.heads,
    );
    this.above = h("tr", { class: "space", "aria-hidden": "true" }, h("td", { colSpan: 10 }));
    this.below = h("tr", { class: "space", "aria-hidden": "true" }, h("td", { colSpan: 10 }));
    this.body = h("tbody", { role: "rowgroup" }, this.above, this.below);
    this.element = h("table", { class: selectable ? "jobs live" : "jobs live no-check", role: "table", "aria-label": "Jobs" }, h("thead", { role: "rowgroup" }, head), this.body);
    /** Of one person's jobs nobody asks whose they are. */
    this.element.classList.add("one-person");
    this.draw = oncePerFrame(() => this.drawNow());
  }

  /** Draw as the page is scrolled and resized, until `signal` ends it. @param {AbortSignal} signal */
  attach(signal) {
    addEventListener("scroll", this.draw, { signal, passive: true });
    addEventListener("resize", () => ((this.rowHeight = 0), this.draw()), { signal });
  }

  /** @param {string} key */
  nextSort(key) {
    const first = LARGEST_FIRST.has(key) ? `-${key}` : key;
    const second = LARGEST_FIRST.has(key) ? key : `-${key}`;
    return this.sort === first ? second : this.sort === second ? "attention" : first;
  }

  /** Show who has submitted each job, or not. @param {boolean} isShown */
  showSubmitters(isShown) {
    this.element.classList.toggle("one-person", !isShown);
  }

  /** Show these jobs in this order. @param {JobStatus[]} jobs @param {string} sort */
  show(jobs, sort) {
    this.jobs = jobs;
    this.sort = sort;
    for (const head of this.heads) {
      const key = head.dataset.key ?? "";
      const turn = sort === key ? "ascending" : sort === `-${key}` ? "descending" : "none";
      head.setAttribute("aria-sort", turn);
    }
    this.draw();
  }

  drawNow() {
    if (!this.element.isConnected) return;
    const { jobs } = this;
    if (!this.rowHeight && jobs.length) {
      const probe = this.rows.get(jobs[0].id) ?? this.takeRow(jobs[0]);
      if (!probe.element.isConnected) this.body.insertBefore(probe.element, this.below);
      probe.update(jobs[0]);
      this.rowHeight = probe.element.getBoundingClientRect().height || 53;
      if (!this.rows.has(jobs[0].id)) this.putAway(probe);
    }
    const height = this.rowHeight || 53;
    const top = this.body.getBoundingClientRect().top;
    const first = Math.max(0, Math.min(jobs.length, Math.floor(-top / height)) - SPARE_ROWS);
    const last = Math.min(jobs.length, Math.max(0, Math.ceil((innerHeight - top) / height)) + SPARE_ROWS);
    const wanted = jobs.slice(first, last);
    const ids = new Set(wanted.map((job) => job.id));
    for (const [id, row] of this.rows) {
      if (ids.has(id)) continue;
      this.rows.delete(id);
      this.putAway(row);
    }
    let place = this.above.nextElementSibling;
    wanted.forEach((job, index) => {
      let row = this.rows.get(job.id);
      if (!row) this.rows.set(job.id, (row = this.takeRow(job)));
      if (row.element === place) place = place.nextElementSibling;
      else this.body.insertBefore(row.element, place);
      row.update(job);
      row.mark(first + index, this.selected.has(job.id), this.cursor === job.id);
      row.element.classList.toggle("last", first + index === jobs.length - 1);
    });
    setHeight(this.above, first * height);
    setHeight(this.below, (jobs.length - last) * height);
    // With the room that they take: who hears of rows can go to the last one.
    this.element.setAttribute("aria-rowcount", String(jobs.length + 1));
    const chosen = this.selected.size && jobs.filter((job) => this.selected.has(job.id)).length;
    this.all.checked = chosen > 0 && chosen === jobs.length;
    this.all.indeterminate = chosen > 0 && chosen < jobs.length;
  }

  /** @param {JobStatus} job */
  takeRow(job) {
    const row = this.spare.pop() ?? new Row(this);
    row.become(job);
    return row;
  }

  /** @param {Row} row */
  putAway(row) {
    row.element.remove();
    this.spare.push(row);
  }

  /** Put the cursor on a job, bring it into sight and give it the focus. @param {string} id */
  moveTo(id) {
    const index = this.jobs.findIndex((job) => job.id === id);
    if (index < 0) return;
    this.cursor = id;
    const top = this.body.getBoundingClientRect().top + index * this.rowHeight;
    const low = innerHeight - this.rowHeight - 90;
    if (top < 110) scrollBy(0, top - 110);
    else if (top > low) scrollBy(0, top - low);
    this.drawNow();
    this.rows.get(id)?.link.focus({ preventScroll: true });
  }
}

/** @param {HTMLElement} spacer @param {number} height */
function setHeight(spacer, height) {
  spacer.hidden = height <= 0;
  /** @type {HTMLElement} */ (spacer.firstElementChild).style.height = `${Math.max(0, height)}px`;
}

class Row {
  /** @param {JobTable} table */
  constructor(table) {
    this.id = "";
    /** @type {JobStatus | null} */
    this.shown = null;
    this.pictureAt = 0;
    this.pictureOf = -1;
    this.pictures = table.pictures;
    this.check = h("input", { type: "checkbox" });
    this.check.addEventListener("click", (event) => table.onToggle(this.id, event));
    this.picture = h("span", { class: "thumb" });
    this.link = h("a", { class: "cut name", href: "/" });
    this.link.addEventListener("focus", () => {
      table.cursor = this.id;
      table.draw();
    });
    this.under = h("span", { class: "cut under" });
    this.pill = h("span", { class: "pill" });
    this.bar = progressBar();
    this.percent = h("span", { class: "percent" });
    this.running = h("td", { role: "cell", class: "c-running num" });
    this.eta = h("td", { role: "cell", class: "c-eta num" });
    this.failed = h("td", { role: "cell", class: "c-failed num" });
    this.created = h("time", {});
    this.by = h("td", { role: "cell", class: "c-by cut" });
    this.element = h(
      "tr",
      { role: "row", class: "job" },
      table.selectable && h("td", { role: "cell", class: "c-check" }, h("label", {}, this.check)),
      h("td", { role: "cell", class: "c-picture" }, this.picture),
      h("td", { role: "cell", class: "c-name" }, h("div", { class: "names" }, this.link, this.under)),
      h("td", { role: "cell", class: "c-state" }, this.pill),
      h("td", { role: "cell", class: "c-progress" }, h("div", { class: "progress" }, this.bar, this.percent)),
      this.running,
      this.eta,
      this.failed,
      h("td", { role: "cell", class: "c-created num" }, this.created),
      this.by,
    );
    // The whole row opens the job, but for text that is being selected.
    this.element.addEventListener("click", (event) => {
      const target = /** @type {Element} */ (event.target);
      if (target.closest("a, input, label, button") || getSelection()?.toString()) return;
      if (event.shiftKey || event.ctrlKey || event.metaKey) table.onToggle(this.id, event);
      else this.link.click();
    });
  }

  /** Show another job than before. @param {JobStatus} job */
  become(job) {
    this.id = job.id;
    this.shown = null;
    this.pictureAt = 0;
    this.pictureOf = -1;
    this.picture.textContent = "";
    this.link.href = `/jobs/${encodeURIComponent(job.id)}`;
    this.element.classList.add("new");
  }

  /** @param {number} index @param {boolean} isSelected @param {boolean} isCursor */
  mark(index, isSelected, isCursor) {
    this.element.setAttribute("aria-rowindex", String(index + 2));
    this.element.classList.toggle("selected", isSelected);
    this.element.classList.toggle("cursor", isCursor);
    this.check.checked = isSelected;
  }

  /** @param {JobStatus} job */
  update(job) {
    this.showPicture(job);
    if (job === this.shown) return;
    this.shown = job;
    const name = job.name || job.id;
    setText(this.link, name);
    this.link.title = `${name}\n${job.id}\nEnter opens it`;
    this.check.setAttribute("aria-label", `Select ${name}`);
    const trouble = jobTrouble(job);
    setText(this.under, trouble ?? (job.id === name ? storeOf(job) : job.id));
    this.under.title = trouble ?? job.id;
    this.under.classList.toggle("trouble", Boolean(trouble));
    this.under.classList.toggle("mono", !trouble);
    if (this.pill.dataset.look !== jobLook(job) || this.pill.lastChild?.textContent !== jobWords(job)) {
      this.pill.dataset.look = jobLook(job);
      fill(this.pill, h("i", { "aria-hidden": "true" }), jobWords(job));
    }
    updateBar(this.bar, job);
    // Widths of another job do not glide into those of this one.
    if (this.element.classList.contains("new")) requestAnimationFrame(() => this.element.classList.remove("new"));
    setText(this.percent, percent(job.progress));
    const frozen = job.frozen_chunks ? `${count(job.frozen_chunks)} frozen` : "";
    // A list counts chunks that stand still among those that run.
    const moving = Math.max(0, job.running_chunks - (job.state === "paused" ? job.frozen_chunks : 0));
    showNumber(this.running, moving, frozen);
    setText(this.eta, duration(secondsToGo(job)));
    this.eta.classList.toggle("faint", this.eta.textContent === "–");
    showNumber(this.failed, job.failed_chunks);
    this.failed.classList.toggle("bad", job.failed_chunks > 0);
    if (job.created_at && this.created.dateTime !== job.created_at) {
      this.created.dateTime = job.created_at;
      this.created.title = fullTime(job.created_at);
    }
    setText(this.by, job.submitted_by || "–");
    this.by.title = job.submitted_by;
    this.by.classList.toggle("faint", !job.submitted_by);
    setText(this.created, job.created_at ? clock(job.created_at) : "–");
  }

  /** @param {JobStatus} job */
  showPicture(job) {
    // Until a chunk is published there is nothing to ask for.
    const isAway = job.completed_chunks > 0 && this.pictures.isAway(storeOf(job));
    this.picture.classList.toggle("away", isAway && !this.picture.childElementCount);
    this.picture.title = isAway ? `${storeOf(job)} does not answer` : "";
    if (isAway || !job.completed_chunks || job.completed_chunks === this.pictureOf || Date.now() - this.pictureAt < PICTURE_EVERY_MS) return;
    this.pictureOf = job.completed_chunks;
    this.pictureAt = Date.now();
    const isWanted = () => job.id === this.id && this.element.isConnected;
    void this.pictures.load(job, isWanted).then((image) => {
      if (!image) this.pictureOf = -1;
      else if (isWanted() && image.naturalWidth) fill(this.picture, image);
    });
  }
}

/** Loads the pictures of jobs, a few at once, and leaves stores alone for a while that do not answer. */
class PictureQueue {
  /** @param {() => void} onChange called when a store is found away, and when it is to be asked again */
  constructor(onChange) {
    this.onChange = onChange;
    this.loading = 0;
    /** @type {Array<() => void>} */
    this.waiting = [];
    /** @type {Map<string, number>} when a store was found away */
    this.away = new Map();
  }

  /** @param {string} store */
  isAway(store) {
    return performance.now() - (this.away.get(store) ?? -Infinity) < PICTURE_EVERY_MS;
  }

  /**
   * Load the picture of a job; null where it is to be asked for again.
   * @param {JobStatus} job @param {() => boolean} isWanted whether somebody would still see it
   * @returns {Promise<HTMLImageElement | null>}
   */
  async load(job, isWanted) {
    if (this.loading >= PICTURES_AT_ONCE) await new Promise((resolve) => this.waiting.push(() => resolve(undefined)));
    if (!isWanted() || this.isAway(storeOf(job))) {
      this.waiting.shift()?.();
      return null;
    }
    this.loading++;
    try {
      const image = h("img", { alt: "", decoding: "async" });
      const isThere = await new Promise((resolve) => {
        image.addEventListener("load", () => resolve(true));
        image.addEventListener("error", () => resolve(false));
        image.src = api.address(api.job(job.id, "picture"), { v: job.completed_chunks });
      });
      return isThere || !(await this.noteAway(job)) ? image : null;
    } finally {
      this.loading--;
      this.waiting.shift()?.();
    }
  }

  /** An image does not say why it has not come: ask, and return whether the store is away. @param {JobStatus} job */
  async noteAway(job) {
    const answer = await fetch(api.address(api.job(job.id, "picture"))).catch(() => null);
    if (answer?.status !== 503 || (await answer.json().catch(() => ({}))).type !== "store-away") return false;
    this.away.set(storeOf(job), performance.now());
    setTimeout(this.onChange, PICTURE_EVERY_MS + 100);
    this.onChange();
    return true;
  }
}

/** @param {HTMLElement} cell @param {number} value @param {string} [instead] */
function showNumber(cell, value, instead = "") {
  setText(cell, value ? count(value) : instead || "–");
  cell.classList.toggle("faint", !value && !instead);
}

/** @param {JobStatus} job */
const storeOf = (job) => job.base_dir ?? "";
