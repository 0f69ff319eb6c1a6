"""What a version of Longtake writes, in a form that two runs of it share: for the golden files of `tests/golden`."""

import asyncio
import base64
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import BaseModel, TypeAdapter
from temporalio import activity, workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Worker

from longtake.names import TRY_FILM

ROOT = Path(__file__).resolve().parents[2]

# More than any command writes.
_LARGEST_ANSWER_BYTES = 1 << 20

# Measurements and lengths of histories, which differ from run to run, and sizes of films, which differ from ffmpeg to
# ffmpeg.
_MEASURED = frozenset(
    {
        *("billed_seconds", "chunk_seconds", "cpu_seconds", "duration_seconds", "eta_seconds", "render_seconds"),
        *("issued_at", "slowest_seconds", "modified_ns", "cost_usd", "usd", "beat", "sequence", "events"),
        *("io_bytes", "memory_bytes", "peak_memory_bytes", "size_bytes"),
    }
)

_REPLACED = (
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?", "<time>"),
    (r"\b[0-9a-f]{64}\b", "<digest>"),
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<run>"),
    (r"\b[0-9a-f]{8}-((?:chunk|stitch)[a-z0-9.-]*-\d+)-[0-9a-f]{8}\b", r"<run>-\1-<random>"),
    (r"\bmsg_[0-9a-f]{32}\b", "<message>"),
    (r"\b\d+@\S+", "<worker>"),
    (r"\b\d+(\.\d+)? (s|min|h|ms)\b( \d+ s\b)?", "<duration>"),
    (r"\b\d+:\d\d(:\d\d)?\b", "<duration>"),
    (r"\bsha256 [0-9a-f]{12}\b", "sha256 <digest>"),
    # Columns are as wide as what stands in them.
    (r"(?<=\S) {3,}", "  "),
    (r"\b\d[\d.,]* (bytes|[kKMG]i?B)\b", "<size>"),
    (r"\$\d+(\.\d+)?", "$<sum>"),
    # Whether its chunk has begun by then is a matter of milliseconds.
    (r"^holding is running(, 1 chunk rendering)?$", "holding is running"),
)

# Calls the command line as often as it is told to in one process: a start takes longer than most calls.
_CALL_EACH = """
import json, os, sys, tempfile
from longtake.__main__ import main

def call(arguments):
    sys.argv = ["longtake", *arguments]
    files = [tempfile.TemporaryFile() for _ in range(2)]
    kept = [os.dup(1), os.dup(2)]
    for number, file in enumerate(files, 1):
        os.dup2(file.fileno(), number)
    try:
        code = main()
        sys.stdout.flush(), sys.stderr.flush()
    finally:
        for number, before in enumerate(kept, 1):
            os.dup2(before, number)
            os.close(before)
    texts = []
    for file in files:
        file.seek(0)
        texts.append(file.read().decode())
        file.close()
    return [code, *texts]

for line in sys.stdin:
    print(json.dumps(call(json.loads(line))), flush=True)
"""


class Normal:
    """Takes out of texts and messages what differs between two runs.

    Args:
        names: Texts that have another name in golden files: folders, addresses, versions.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        # The longest first: one may hold another.
        self._names = sorted(names.items(), key=lambda pair: -len(pair[0]))

    def text(self, text: str) -> str:
        for found, name in self._names:
            text = text.replace(found, name)
        for pattern, name in _REPLACED:
            text = re.sub(pattern, name, text)
        return text

    def lines(self, text: str) -> list[str]:
        # A renderer may be too quick for its CPU time to be seen, and a wait be over before it is spoken of.
        return [line.rstrip() for line in self.text(text).splitlines() if not line.startswith(("used ", "waiting: "))]

    def message(self, value: Any, key: str = "") -> Any:
        """Return a JSON value with its keys in their order."""
        if isinstance(value, dict):
            return {self.text(name): self.message(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [self.message(item) for item in value]
        if key == "found":
            # What `doctor` finds: versions, and where they are installed.
            value = re.sub(r"\bn?\d+\.\d+[\w.+-]*", "<version>", re.sub(r"\([^)]*\)", "(<details>)", self.text(value)))
        if key in _MEASURED and isinstance(value, int | float):
            return "<number>"
        return self.text(value) if isinstance(value, str) else value


class Calls:
    """Calls the command line and writes down what it answers.

    Args:
        folder: Where it is called.
        address: The Temporal server.
        normal: Takes out what differs between runs.
    """

    def __init__(self, folder: Path, address: str, normal: Normal) -> None:
        self._folder = folder
        self._address = address
        self._normal = normal
        self.answers: dict[str, Any] = {}
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("TEMPORAL_", "LONGTAKE_"))}
        environment |= {
            "COLUMNS": "100",
            "LANG": "C.UTF-8",
            "LINES": "30",
            "NO_COLOR": "1",
            # No ffmpeg or Blender that a machine may have.
            "PATH": str(self._folder / "bin"),
            "PYTHONPATH": str(ROOT / "client"),
            "TEMPORAL_ADDRESS": self._address,
            "TERM": "dumb",
            "TZ": "UTC",
        }
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _CALL_EACH),
            cwd=self._folder,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LARGEST_ANSWER_BYTES,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            # It may hang in a call.
            if self._process.returncode is None:
                self._process.kill()
            await self._process.communicate()

    async def __call__(self, *lines: str, last_line_only: bool = False) -> None:
        """Call it with each of these lines, one after the other.

        Args:
            lines: As one would type them after `longtake`; behind a `;` stands why this call is made.
            last_line_only: How often a job is looked at on the way does not matter.
        """
        for line in lines:
            code, out, err = await self._call(line.partition(";")[0].split())
            messages = self._normal.lines(err)
            self.answers[line] = {
                "exit": code,
                "stdout": self._result(out, last_line_only=last_line_only),
                "stderr": messages[-1:] if last_line_only else messages,
            }

    async def texts(self, *lines: str) -> dict[str, list[str]]:
        """Return what calls print that say nothing but how Longtake is called."""
        answers = {line: await self._call(line.split()) for line in lines}
        return {line: [shown.rstrip() for shown in out.splitlines()] for line, (_, out, _) in answers.items()}

    def _result(self, out: str, *, last_line_only: bool) -> Any:
        try:
            document = json.loads(out)
        except ValueError:
            lines = self._normal.lines(out)
            if not last_line_only or not out.startswith("{"):
                return lines
            return {"last of JSON lines": self._normal.message(json.loads(out.splitlines()[-1]))}
        form = "JSON of several lines" if out == json.dumps(document, indent=2) + "\n" else "JSON"
        form = "JSON line" if out == json.dumps(document) + "\n" and "\n" in json.dumps(document, indent=2) else form
        return {"last of JSON lines" if last_line_only else form: self._normal.message(document)}

    async def _call(self, arguments: Sequence[str]) -> tuple[int, str, str]:
        """Return the exit code, and what was written to stdout and stderr."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(arguments).encode() + b"\n")
        answer = await self._process.stdout.readline()
        assert answer, f"the process that calls `longtake {' '.join(arguments)}` has ended"
        code, out, err = json.loads(answer)
        return code, out, err


def messages(history: WorkflowHistory, normal: Normal) -> list[Any]:
    """Return the messages of a history, each once: between a client, the workflow and its activities."""
    scheduled: dict[str, str] = {}
    found: list[Any] = []
    for event in json.loads(history.to_json())["events"]:
        (kind,) = (name for name in event if name.endswith("EventAttributes"))
        told = event[kind]
        of = told.get("activityType") or told.get("workflowType") or {"name": scheduled.get(_scheduled_by(told), "")}
        scheduled[event["eventId"]] = of["name"]
        if of["name"] == TRY_FILM:
            # The film of a job whose chunks are all done at once is made, and not tried.
            continue
        what = {
            "of": of["name"] or told.get("signalName", ""),
            "queue": told.get("taskQueue", {}).get("name", ""),
            "input": _payloads(told.get("input")),
            "result": _payloads(told.get("result")),
            "failure": _failure(told.get("failure")),
            "update": _update(told),
            "memo": _memo(told),
        }
        said = {"event": kind.removesuffix("EventAttributes")} | {name: value for name, value in what.items() if value}
        if said.keys() & {"input", "result", "failure", "update", "memo"}:
            found.append(normal.message(said))
    unique = {json.dumps(one): one for one in found}
    return [unique[text] for text in sorted(unique)]


def payload(encoded: Mapping[str, Any]) -> Any:
    """Return a payload as JSON; one that is no plain JSON with its encoding."""
    encoding = base64.b64decode(encoded["metadata"]["encoding"]).decode()
    data = base64.b64decode(encoded.get("data", ""))
    return json.loads(data) if encoding == "json/plain" else {"encoding": encoding}


def _payloads(encoded: Mapping[str, Any] | None) -> list[Any]:
    return [payload(one) for one in (encoded or {}).get("payloads", [])]


def _scheduled_by(told: Mapping[str, Any]) -> str:
    return str(told.get("scheduledEventId", ""))


def _failure(failure: Mapping[str, Any] | None) -> dict[str, Any]:
    if not failure:
        return {}
    info = failure.get("applicationFailureInfo", {})
    details = {"details": _payloads(info.get("details")), "cause": _failure(failure.get("cause"))}
    return {"message": failure.get("message"), "type": info.get("type"), "non_retryable": info.get("nonRetryable")} | {
        name: value for name, value in details.items() if value
    }


def _update(told: Mapping[str, Any]) -> dict[str, Any]:
    asked, outcome = told.get("acceptedRequest", {}).get("input"), told.get("outcome")
    if asked:
        return {"name": asked["name"], "input": _payloads(asked.get("args"))}
    return {"result": _payloads(outcome.get("success")), "failure": _failure(outcome.get("failure"))} if outcome else {}


def _memo(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return a memo; of a status in it only that it is there, because how often it is written depends on time."""
    fields = (told.get("upsertedMemo") or told.get("memo") or {}).get("fields", {})
    return {name: "<status>" if name == "longtake_status" else payload(one) for name, one in sorted(fields.items())}


def names_and_messages(workers: Iterable[Worker]) -> dict[str, Any]:
    """Return what these workers answer to, and the schemas of what they take and return."""
    found: dict[str, Any] = {"activities": {}, "workflows": {}}
    for worker in workers:
        if worker._activity_worker is not None:
            for name, known in worker._activity_worker._activities.items():
                found["activities"][f"{name} on {worker.task_queue}"] = _taken_and_returned(known)
        if worker._workflow_worker is not None:
            for name, job in worker._workflow_worker._workflows.items():
                found["workflows"][f"{name} on {worker.task_queue}"] = {
                    **_taken_and_returned(job),
                    "signals": {str(n): _schemas(one.arg_types) for n, one in sorted(job.signals.items())},
                    "queries": {str(n): _taken_and_returned(one) for n, one in sorted(job.queries.items())},
                    "updates": {str(n): _taken_and_returned(one) for n, one in sorted(job.updates.items())},
                }
    return {kind: dict(sorted(known.items())) for kind, known in found.items()}


def _taken_and_returned(
    known: activity._Definition | workflow._Definition | workflow._QueryDefinition | workflow._UpdateDefinition,
) -> dict[str, Any]:
    return {"takes": _schemas(known.arg_types), "returns": schema(known.ret_type)}


def _schemas(kinds: Iterable[Any] | None) -> list[Any]:
    return [schema(kind) for kind in kinds or ()]


def schema(kind: Any) -> Any:
    """Return the JSON schema of a message without the names and the words of its classes."""
    if kind is None or not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        try:
            document = TypeAdapter(kind).json_schema()
        except Exception:
            return getattr(kind, "__name__", str(kind))
    else:
        document = kind.model_json_schema(mode="serialization")
    return _plain(document, document.get("$defs", {}))


def _plain(part: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(part, list):
        return [_plain(item, definitions) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        meant = _plain(definitions[part["$ref"].rpartition("/")[2]], definitions)
        return meant | _plain({name: item for name, item in part.items() if name != "$ref"}, definitions)
    return {
        name: {field: _plain(item, definitions) for field, item in value.items()}
        if name == "properties"
        else _plain(value, definitions)
        for name, value in part.items()
        if name not in ("$defs", "title", "description", "discriminator")
    }


def records(store: Path, normal: Normal) -> dict[str, Any]:
    """Return what lies in the bookkeeping of a store: records as they are, and of other files that they are there."""
    found: dict[str, Any] = {}
    for path in sorted((store / ".longtake").rglob("*")):
        if path.is_file():
            name = normal.text(str(path.relative_to(store)))
            found[name] = normal.message(json.loads(path.read_text())) if path.suffix == ".json" else "<content>"
            if name.endswith(".progress.json"):
                # What an agent says once a second; the last time it may be done or not.
                found[name] |= {"frames_done": "<number>"}
    return dict(sorted(found.items()))
