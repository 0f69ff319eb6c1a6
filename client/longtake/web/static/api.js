// Talk to the API of this server: requests with problem details, and event streams that resume where they broke off.

const BASE = "/api/v1";

/** What went wrong with a request, as RFC 9457 tells it. */
export class Problem extends Error {
  /** @param {Record<string, any>} body @param {number} status 0 where the server did not answer */
  constructor(body, status) {
    super(body.detail || body.title || `the server answered ${status}`);
    this.name = "Problem";
    this.status = status;
    this.type = body.type || "about:blank";
    this.title = body.title || "";
    this.since = body.since || null;
    /** @type {Array<{field: string, message: string, line?: number}>} */
    this.errors = body.errors || [];
    this.body = body;
  }
}

/**
 * Which parts of the farm answer. `away` tells of parts that do not, with the time since when.
 * Events: `change`.
 */
class Connection extends EventTarget {
  /** @type {Map<string, {since: Date, detail: string}>} by part: "server", "temporal", "store" */
  away = new Map();

  /** @param {string} part @param {string} detail @param {string|null} [since] */
  lose(part, detail, since) {
    const known = this.away.get(part);
    const start = since ? new Date(since) : known?.since ?? new Date();
    if (known && known.detail === detail && +known.since === +start) return;
    this.away.set(part, { since: start, detail });
    this.dispatchEvent(new Event("change"));
  }

  /** @param {...string} parts */
  regain(...parts) {
    if (parts.filter((part) => this.away.delete(part)).length) this.dispatchEvent(new Event("change"));
  }
}

export const connection = new Connection();

const STORE = /^\/jobs\/[^/]+\/(chunks|pictures?|outputs|logs|preview|timeline|report|failures)\b/;

/** Which part answers for a path. @param {string} path */
const partOf = (path) => (STORE.test(path) ? "store" : /^\/(jobs|farm)/.test(path) ? "temporal" : "server");

/** @param {Problem} problem @param {string} path */
function noteProblem(problem, path) {
  if (problem.status === 0) connection.lose("server", problem.message, null);
  else connection.regain("server");
  if (problem.status !== 503) return;
  connection.lose(problem.type.includes("store") ? "store" : "temporal", problem.message, problem.since);
}

/** Take note of a problem that a stream tells. @param {Record<string, any>} body @param {string} path */
export const notice = (body, path) => noteProblem(new Problem(body, body.status ?? 503), path);

/** The path of a job: `job(id, "chunks", 3)`. @param {string} id @param {...(string|number)} rest */
export const job = (id, ...rest) => `/jobs/${[id, ...rest].map((part) => encodeURIComponent(part)).join("/")}`;

/** The whole address of a path, for images, players and links. @param {string} path @param {Record<string, any>} [query] */
export function address(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const words = new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
  return BASE + path + (given.length ? `?${words}` : "");
}

/**
 * Ask, and return the answer.
 * @param {string} path below /api/v1
 * @param {{method?: string, body?: any, text?: string, type?: string, query?: Record<string, any>,
 *   headers?: Record<string, string>, signal?: AbortSignal}} [options] `body` is sent as JSON, `text` as it is
 * @returns {Promise<Response>}
 * @throws {Problem}
 */
export async function ask(path, options = {}) {
  const { method = options.body !== undefined || options.text !== undefined ? "POST" : "GET", query, signal } = options;
  /** @type {Record<string, string>} */
  const headers = { accept: "application/json, application/problem+json", ...options.headers };
  // No form of another site can send this header, nor can its scripts without asking first.
  if (method !== "GET") headers["x-longtake"] = "page";
  let body = options.text;
  if (options.body !== undefined) {
    body = JSON.stringify(options.body);
    headers["content-type"] = "application/json";
  } else if (body !== undefined) headers["content-type"] = options.type ?? "application/yaml";
  let answer;
  try {
    answer = await fetch(address(path, query), { method, headers, body, signal, credentials: "same-origin" });
  } catch (error) {
    if (signal?.aborted) throw error;
    const problem = new Problem({ title: "The Longtake server does not answer" }, 0);
    noteProblem(problem, path);
    throw problem;
  }
  if (answer.ok || answer.status === 304) {
    connection.regain("server", partOf(path));
    return answer;
  }
  const problem = await readProblem(answer);
  noteProblem(problem, path);
  if (problem.status === 401) document.dispatchEvent(new CustomEvent("loginneeded"));
  throw problem;
}

/** @param {Response} answer */
async function readProblem(answer) {
  try {
    return new Problem(await answer.json(), answer.status);
  } catch {
    return new Problem({ title: answer.statusText }, answer.status);
  }
}

/** @param {string} path @param {Parameters<typeof ask>[1]} [options] @returns {Promise<any>} */
export async function get(path, options = {}) {
  return (await ask(path, options)).json();
}

/** @param {string} path @param {any} [body] @param {Parameters<typeof ask>[1]} [options] @returns {Promise<any>} */
export async function post(path, body = {}, options = {}) {
  const answer = await ask(path, { method: "POST", body, ...options });
  return answer.status === 204 ? null : answer.json();
}

/** @param {string} path @param {any} body @returns {Promise<any>} */
export const put = (path, body) => post(path, body, { method: "PUT" });

// Reconnecting waits this long at first, and at most.
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
// A server that sends neither events nor comments for so long has gone without a word.
const SILENCE_MS = 60_000;

/**
 * Follow a stream of server-sent events until `signal` ends it. A broken stream is taken up where it broke off
 * (Last-Event-ID). A page that is hidden lets go of its connection: browsers have six for all tabs of a server.
 * @param {string} path
 * @param {{onEvent: (name: string, data: any, id: string) => void, onOpen?: () => void, signal: AbortSignal,
 *   query?: Record<string, any>}} options
 */
export async function follow(path, { onEvent, onOpen, signal, query }) {
  let last = "";
  let wait = FIRST_WAIT_MS;
  while (!signal.aborted) {
    await untilVisible(signal);
    if (signal.aborted) return;
    const attempt = new AbortController();
    const stop = () => attempt.abort();
    const stopWhenHidden = () => document.hidden && stop();
    signal.addEventListener("abort", stop);
    document.addEventListener("visibilitychange", stopWhenHidden);
    try {
      /** @type {Record<string, string>} */
      const headers = { accept: "text/event-stream" };
      if (last) headers["last-event-id"] = last;
      const answer = await ask(path, { headers, query, signal: attempt.signal });
      onOpen?.();
      await readEvents(answer, stop, (event) => {
        wait = FIRST_WAIT_MS;
        if (event.id) last = event.id;
        if (event.retry) wait = event.retry;
        if (event.data !== null) onEvent(event.name, event.data, event.id);
      });
    } catch (error) {
      if (signal.aborted) return;
      // What is not there, or not allowed, will not be there a second later.
      if (error instanceof Problem && [400, 401, 403, 404, 422].includes(error.status)) throw error;
      if (!(error instanceof Problem) && !attempt.signal.aborted) connection.lose("server", "The Longtake server does not answer");
    } finally {
      signal.removeEventListener("abort", stop);
      document.removeEventListener("visibilitychange", stopWhenHidden);
    }
    await pause(wait * (0.75 + Math.random() / 2), signal);
    wait = Math.min(LONGEST_WAIT_MS, wait * 2);
  }
}

/**
 * @param {Response} answer @param {() => void} stop
 * @param {(event: {name: string, data: any, id: string, retry: number}) => void} onEvent
 */
async function readEvents(answer, stop, onEvent) {
  if (!answer.body) return;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let silence = setTimeout(stop, SILENCE_MS);
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(silence);
      silence = setTimeout(stop, SILENCE_MS);
      const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) onEvent(parseEvent(block));
    }
  } finally {
    clearTimeout(silence);
    reader.cancel().catch(() => {});
  }
}

/** @param {string} block */
export function parseEvent(block) {
  const event = { name: "message", data: /** @type {any} */ (null), id: "", retry: 0 };
  const data = [];
  for (const line of block.split("\n")) {
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line) ?? ["", "", ""];
    if (field === "event") event.name = value;
    else if (field === "data") data.push(value);
    else if (field === "id") event.id = value;
    else if (field === "retry") event.retry = Number(value) || 0;
  }
  if (data.length) {
    try {
      event.data = JSON.parse(data.join("\n"));
    } catch {
      event.data = data.join("\n");
    }
  }
  return event;
}

/** @param {AbortSignal} signal */
function untilVisible(signal) {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", look);
      signal.removeEventListener("abort", look);
      resolve(undefined);
    };
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", look);
  });
}

/** Wait; at once when `signal` ends it. @param {number} ms @param {AbortSignal} signal */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve(undefined);
    const timer = setTimeout(done, ms);
    function done() {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve(undefined);
    }
    signal.addEventListener("abort", done);
  });
}
