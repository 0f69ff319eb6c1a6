// Submits a job file and watches the job to its end: npx tsx watch.ts http://127.0.0.1:8080 film.yaml
import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import type { components } from "./longtake.js";

type JobStatus = components["schemas"]["JobStatus"];
type Problem = { type: string; detail: string; errors?: { field: string; message: string }[] };

const [server, file] = process.argv.slice(2);
if (!server || !file) {
  console.error("usage: npx tsx watch.ts http://127.0.0.1:8080 JOB_FILE");
  process.exit(2);
}
const token = process.env.LONGTAKE_TOKEN;
const headers: Record<string, string> = token ? { Authorization: `Bearer ${token}` } : {};

async function ask(path: string, options: RequestInit = {}): Promise<Response> {
  const answer = await fetch(`${server}/api/v1${path}`, { ...options, headers: { ...headers, ...options.headers } });
  if (!answer.ok) {
    const problem = (await answer.json()) as Problem;
    throw new Error(problem.detail);
  }
  return answer;
}

async function submit(path: string): Promise<JobStatus> {
  const folder = encodeURIComponent(dirname(resolve(path)));
  const body = await readFile(path);
  const answer = await ask(`/jobs?base_dir=${folder}`, {
    method: "POST",
    headers: { "Content-Type": "application/yaml" },
    body,
  });
  return (await answer.json()) as JobStatus;
}

// Yields each status that is news. A stream that was cut is taken up where it ended.
async function* watch(id: string): AsyncGenerator<JobStatus> {
  let last = "";
  for (;;) {
    const answer = await ask(`/jobs/${encodeURIComponent(id)}/events`, { headers: last ? { "Last-Event-ID": last } : {} });
    if (answer.status === 204 || !answer.body) return;
    let rest = "";
    for await (const text of answer.body.pipeThrough(new TextDecoderStream())) {
      const events = (rest + text).split("\n\n");
      rest = events.pop() ?? "";
      for (const event of events) {
        const fields = new Map(event.split("\n").map((line) => [line.split(": ", 1)[0] ?? "", line.replace(/^\w+: /, "")]));
        last = fields.get("id") ?? last;
        if (fields.get("event") === "status") yield JSON.parse(fields.get("data") ?? "") as JobStatus;
        if (fields.get("event") === "end") return;
        if (fields.get("event") === "gone") throw new Error(`the history of ${id} was deleted`);
      }
    }
  }
}

async function main(path: string): Promise<number> {
  let status = await submit(path);
  console.log(status.id);
  for await (status of watch(status.id)) {
    console.error(`${status.state} ${status.progress} % (${status.completed_chunks} of ${status.total_chunks} chunks)`);
  }
  console.log(status.result?.output ?? status.error ?? status.state);
  return status.state === "completed" ? 0 : 1;
}

process.exitCode = await main(file).catch((error: Error) => {
  console.error(error.message);
  return 2;
});
