"""Measure what one process of the HTTP API serves: statuses, and many clients of one job (`make bench-web`)."""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import uvicorn  # noqa: E402  # the root of the checkout is not on the path of a script elsewhere
from fastapi import FastAPI  # noqa: E402
from rich.console import Console  # noqa: E402
from support.farm import Farm, serving, until, worker_settings  # noqa: E402
from temporalio.client import (  # noqa: E402
    Client,
    DescribeWorkflowInput,
    Interceptor,
    OutboundInterceptor,
    QueryWorkflowInput,
    WorkflowExecutionDescription,
)

import devserver  # noqa: E402
from longtake import RenderClient  # noqa: E402
from longtake.connection import connect  # noqa: E402
from longtake.web.server import WebServer  # noqa: E402
from ports import find_free_port  # noqa: E402

# What one process on two cores should serve.
LEAST_STATUSES = 500
CLIENTS = 200
# Of Temporal for one look at a job that runs: two descriptions and a query.
MOST_CALLS = 3
CONNECTIONS = 16


class Calls(Interceptor):
    """Count the calls of Temporal that a client makes about workflows."""

    def __init__(self) -> None:
        self.count = 0

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Counting(next, self)


class _Counting(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, calls: Calls) -> None:
        super().__init__(next)
        self._calls = calls

    async def describe_workflow(self, input: DescribeWorkflowInput) -> WorkflowExecutionDescription:
        self._calls.count += 1
        return await super().describe_workflow(input)

    async def query_workflow(self, input: QueryWorkflowInput) -> Any:
        self._calls.count += 1
        return await super().query_workflow(input)


async def ask(port: int, path: str, until_time: float) -> list[float]:
    """Ask for one address again and again over one connection; return how long each answer took."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    times = []
    try:
        while time.perf_counter() < until_time:
            began = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
            times.append(time.perf_counter() - began)
    finally:
        writer.close()
    return times


async def load(port: int, path: str, seconds: float) -> list[float]:
    """Ask over some connections for so long."""
    until_time = time.perf_counter() + seconds
    found = await asyncio.gather(*(ask(port, path, until_time) for _ in range(CONNECTIONS)))
    return [each for times in found for each in times]


async def measure(port: int, path: str, seconds: float) -> dict[str, float]:
    """Measure an address from a process of its own: clients and server share no interpreter."""
    words = [sys.executable, __file__, "--load", f"{port}", path, f"{seconds}"]
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return dict(json.loads(out))


async def listen(port: int, path: str, until_event: str) -> tuple[int, float]:
    """Follow a stream to an event; return how many events came, and when the last one did."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
    count = 0
    try:
        while line := await reader.readline():
            if line.startswith(b"event: "):
                count += 1
                if line.strip() == f"event: {until_event}".encode():
                    return count, time.perf_counter()
    finally:
        writer.close()
    raise AssertionError("the stream has ended before the job")


@asynccontextmanager
async def running(farm: RenderClient, queue: str) -> AsyncIterator[int]:
    """Run the API in this process; yield its port."""
    server = WebServer(farm, port=0, task_queue=queue)
    task = asyncio.create_task(server.run())
    try:
        yield int(server.address.rpartition(":")[2])
    finally:
        server.end()
        await task


@asynccontextmanager
async def running_bare() -> AsyncIterator[int]:
    """Run a route of FastAPI that returns a constant; yield its port."""
    app = FastAPI()

    @app.get("/jobs/{id}")
    async def answer(id: str) -> dict[str, str]:
        return {"id": id}

    port = find_free_port()
    config = uvicorn.Config(app, port=port, log_level="critical", access_log=False, http="h11", lifespan="off")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(30):
        # It tells of its start by this alone.
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    try:
        yield port
    finally:
        server.should_exit = True
        await task


async def bench(seconds: float, clients: int, console: Console) -> int:
    place = devserver.cache_dir() / "bench"
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="web-", dir=place) as name:
        store = Path(name) / "store"
        store.mkdir()
        temporal = await devserver.start_dev_server(
            devserver.find_temporal(lambda line: None),
            database=None,
            address=f"127.0.0.1:{find_free_port()}",
            ui_port=None,
            log=Path(name) / "temporal.log",
            on_message=lambda line: None,
        )
        try:
            client, queue = await connect(address=temporal.address), f"bench-{uuid.uuid4().hex[:8]}"
            farm = Farm(temporal.address, queue, client, RenderClient(client, task_queue=queue), store)
            calls = Calls()
            config = client.config()
            config["interceptors"] = [calls]
            counted = RenderClient(Client(**config), task_queue=queue)
            async with serving(client, worker_settings(queue, store, slots=4)):
                return await measure_all(farm, counted, calls, seconds, clients, console)
        finally:
            await temporal.stop()


async def measure_all(
    farm: Farm, counted: RenderClient, calls: Calls, seconds: float, clients: int, console: Console
) -> int:
    job = await farm.started(chunks=8, running=4)
    load_before = os.getloadavg()[0]
    async with running_bare() as bare_port, running(counted, farm.task_queue) as port:
        rounds: list[tuple[dict[str, float], dict[str, float]]] = []
        for _ in range(3):
            bare = await measure(bare_port, f"/jobs/{job.id}", seconds)
            calls.count = 0
            status = await measure(port, f"/api/v1/jobs/{job.id}", seconds)
            status["calls"] = calls.count
            rounds.append((bare, status))
        calls.count = 0
        began = time.perf_counter()
        watching = [asyncio.create_task(listen(port, f"/api/v1/jobs/{job.id}/events", "end")) for _ in range(clients)]
        # All of them listen, before anything happens.
        await asyncio.sleep(2)
        farm.open_gate()
        heard = await asyncio.gather(*watching)
        took = max(at for _, at in heard) - began
        called = calls.count
    await until(job, lambda status: status.state.has_ended)
    each = [status["per_second"] for _, status in rounds]
    ratio = statistics.median(status["per_second"] / bare["per_second"] for bare, status in rounds)
    ends = [at for _, at in heard]
    facts: dict[str, Any] = {
        "machine": platform.machine(), "cores": os.cpu_count(), "load": load_before,
        "statuses_per_second": statistics.median(each),
        "bare_per_second": statistics.median(bare["per_second"] for bare, _ in rounds),
        "ratio_to_bare": ratio, "p50_ms": rounds[1][1]["p50_ms"], "p99_ms": rounds[1][1]["p99_ms"],
        "calls_per_second": rounds[1][1]["calls"] / seconds, "clients": clients, "events_each": heard[0][0],
        "stream_seconds": took, "stream_calls": called, "last_end_after_first_ms": 1000 * (max(ends) - min(ends)),
    }  # fmt: skip
    console.print(f"load before {load_before:.2f} on {os.cpu_count()} cores; {CONNECTIONS} connections, 3 rounds")
    console.print(
        f"status of a running job: {facts['statuses_per_second']:,.0f} a second (p50 {facts['p50_ms']:.1f} ms, p99 "
        f"{facts['p99_ms']:.1f} ms); a bare route {facts['bare_per_second']:,.0f}: ratio {ratio:.2f}; Temporal was "
        f"asked {facts['calls_per_second']:.1f} times a second"
    )
    console.print(
        f"{clients} clients of the events of one job: Temporal was asked {called} times in {took:.1f} s; each heard "
        f"{heard[0][0]} events, the last of them within {facts['last_end_after_first_ms']:.0f} ms of the first"
    )
    (devserver.cache_dir() / "bench" / "web.json").write_text(json.dumps(facts, indent=1))
    return 0 if statistics.median(each) >= LEAST_STATUSES and called <= MOST_CALLS * (took / 0.5 + 2) else 1


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["--load"]:
        port, path, seconds = words[1:]
        times = sorted(asyncio.run(load(int(port), path, float(seconds))))
        told = {"per_second": len(times) / float(seconds), "p50_ms": 1000 * times[len(times) // 2]}
        print(json.dumps({**told, "p99_ms": 1000 * times[len(times) * 99 // 100]}))
        return 0
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each address is asked, three times")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    asked = parser.parse_args(words)
    return asyncio.run(bench(asked.seconds, asked.clients, Console()))


if __name__ == "__main__":
    sys.exit(main())
