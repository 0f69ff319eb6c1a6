"""What agents refuse, and that nothing is written or run for it; what they never let out."""

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.processes.workers import ROOT
from support.remote.agent_jobs import SECRET, AgentJobs, signed, signed_text
from support.remote.agents import Edge, cloud_run_edge, lambda_edge, refused
from support.s3.server import S3Server
from support.servers.http_server import Connection, HttpServer, Request

from activities.errors import AttemptError
from activities.remote.protocol import LARGEST_ORDER_BYTES, RemoteOrder, RemoteOutcome
from activities.remote.service import CallLostError, ServiceAnswer
from activities.stores.job_folder import encode_job
from longtake import Retry, Timeouts
from longtake.stores.directory import DirectoryStore

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


def tampered(payload: dict[str, Any]) -> dict[str, Any]:
    return {**payload, "order": payload["order"].replace('"chunk":0', '"chunk":1')}


FORGERIES: dict[str, tuple[Callable[[RemoteOrder], dict[str, Any]], str]] = {
    "unsigned": (lambda order: signed(order, ""), "not signed"),
    "another secret": (lambda order: signed(order, "another"), "not signed"),
    "tampered": (lambda order: tampered(signed(order)), "not signed"),
    "signature of another order": (lambda order: signed_text(order.model_dump_json()), "not signed"),
    "of yesterday": (lambda order: signed(order.model_copy(update={"issued_at": time.time() - 86_400})), "stale"),
    "of tomorrow": (lambda order: signed(order.model_copy(update={"issued_at": time.time() + 86_400})), "stale"),
    "no order": (lambda order: {"order": {"chunk": 0}}, "no order"),
    "oversized": (lambda order: {**signed(order), "padding": "x" * LARGEST_ORDER_BYTES}, "bytes"),
}


async def test_what_no_worker_has_signed_is_refused_and_leaves_nothing(jobs: AgentJobs, edge: Edge) -> None:
    job = jobs.texts()
    before = job.everything()

    for name, (forge, why) in FORGERIES.items():
        assert why in await refused(edge, forge(job.order())), name

        assert job.everything() == before, name
    assert job.ledger.started == []


async def test_an_order_runs_once_whoever_sends_it_again(jobs: AgentJobs, edge: Edge) -> None:
    job = jobs.texts("--exit", "3")
    payload = signed(order := job.order())
    first = edge.service.parse_result(await edge.service.call(payload))
    assert first.outcome is RemoteOutcome.FAILED
    before = job.everything()

    assert "begun before" in await refused(edge, payload)

    assert job.ledger.started == [0]
    assert job.everything() == before
    assert job.calls().result(order.attempt) == first


async def test_an_order_is_not_begun_by_two_at_the_same_moment(jobs: AgentJobs, edge: Edge) -> None:
    job = jobs.texts("--seconds", "0.5")
    payload = signed(job.order())

    answers = await asyncio.gather(*(edge.service.call(payload) for _ in range(2)), return_exceptions=True)

    results = [outcome for answer in answers if (outcome := outcome_of(edge, answer)) is not None]
    assert results == [RemoteOutcome.PUBLISHED]
    assert job.ledger.started == [0]


def outcome_of(edge: Edge, answer: ServiceAnswer | BaseException) -> RemoteOutcome | None:
    if isinstance(answer, BaseException):
        assert isinstance(answer, CallLostError), answer
        return None
    try:
        return edge.result(answer).outcome
    except AttemptError:
        return None


async def test_an_order_is_refused_after_a_restart_too(jobs: AgentJobs, s3_server: S3Server, tmp_path: Path) -> None:
    job = jobs.texts()
    payload = signed(job.order())
    for attempt in range(3):
        make = lambda_edge if attempt == 2 else cloud_run_edge
        async with make(tmp_path, jobs.environ, s3_server) as edge:
            if attempt == 0:
                assert (await edge.service.call(payload)).status == 200
            else:
                assert "begun before" in await refused(edge, payload)
    assert job.ledger.started == [0]


async def test_a_job_that_is_not_the_signed_one_is_refused(jobs: AgentJobs, edge: Edge) -> None:
    job = jobs.texts()
    folder = job.job.folder
    other = job.job.job.model_copy(update={"command": ("sh", "-c", "touch owned; touch {output}")})
    jobs.store.replace(folder.job_file, other.model_dump_json().encode())
    before = job.everything()
    unprotected = job.job.ref.model_copy(update={"integrity": ""})

    assert "another job" in await refused(edge, signed(job.order().model_copy(update={"ref": unprotected})))
    assert "is not what was accepted" in await refused(edge, signed(job.order()))
    assert job.everything() == before


async def test_an_order_signs_all_of_the_job(jobs: AgentJobs, edge: Edge) -> None:
    """Also what does not decide the outputs: timeouts, retries, and patterns that are searched for in the output."""
    job = jobs.texts()
    other = job.job.job.model_copy(update={"timeouts": Timeouts(chunk_seconds=7), "retry": Retry(attempts=50)})
    assert other.digest() == job.job.job.digest()
    jobs.store.replace(job.job.folder.job_file, encode_job(other))

    assert "is not what was accepted" in await refused(edge, signed(job.order()))
    assert job.ledger.started == []


async def test_nothing_secret_gets_out(jobs: AgentJobs, edge: Edge, s3_server: S3Server) -> None:
    """Neither to renders, nor into answers, records, logs."""
    job = jobs.accept(command=("sh", "-c", "env > {output}; env; cat /proc/$PPID/environ; exit 0"))
    failing = jobs.accept(command=("sh", "-c", "env; cat {output}"))
    orders = [job.order(), failing.order()]
    answers = [await edge.service.call(signed(order)) for order in orders]
    answers += [await edge.service.call({**signed(job.order()), "signature": "00" * 32})]
    for each in (job, failing):
        for location in each.everything():
            assert_holds_no_secret(jobs.store.read(location), s3_server, location)
    for answer in answers:
        assert_holds_no_secret(answer.body, s3_server, "an answer")
    assert_holds_no_secret(edge.log.encode(), s3_server, "the agent's log")
    assert b"LONGTAKE_ATTEMPT" in job.published()


def assert_holds_no_secret(content: bytes, s3_server: S3Server, what: str) -> None:
    for secret in (
        SECRET,
        s3_server.secret_key,
        s3_server.access_key,
        "LONGTAKE_REMOTE_SECRET",
        "AWS_SECRET_ACCESS_KEY",
    ):
        assert secret.encode() not in content, what


async def test_the_environment_of_the_lambda_program_shows_no_secret(jobs: AgentJobs, tmp_path: Path) -> None:
    """As `/proc/<pid>/environ` gives it; the tests above run the handler in forks, which have another's."""
    asked, answered = asyncio.Event(), asyncio.Queue[Request]()

    async def runtime_api(connection: Connection, request: Request) -> None:
        if request.method == "POST":
            answered.put_nowait(request)
            await connection.respond_json(202, {"status": "OK"})
        elif asked.is_set():
            await connection.until_closed()
        else:
            asked.set()
            deadline = {"Lambda-Runtime-Deadline-Ms": str(int((time.time() + 60) * 1000))}
            await connection.respond_json(200, {"order": "none"}, {"Lambda-Runtime-Aws-Request-Id": "1", **deadline})

    api = HttpServer(runtime_api)
    await api.start()
    variables = {
        "PATH": os.environ["PATH"],
        "TMPDIR": str(tmp_path),
        "AWS_LAMBDA_RUNTIME_API": api.address,
        "AWS_LAMBDA_FUNCTION_NAME": "render",
        "AWS_SECRET_ACCESS_KEY": "a-key-of-the-role",
        **jobs.environ,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agent.lambda_handler", cwd=ROOT, env=variables
    )
    try:
        answer = await asyncio.wait_for(answered.get(), 60)
        shown = await asyncio.to_thread(Path(f"/proc/{process.pid}/environ").read_text)
    finally:
        process.kill()
        await process.wait()
        await api.close()

    assert answer.target.endswith("/invocation/1/response")
    assert "not signed" in json.loads(answer.body)["refused"]
    assert "PATH=" in shown
    assert SECRET not in shown
    assert "a-key-of-the-role" not in shown


async def test_with_iam_alone_orders_need_no_signature(tmp_path: Path) -> None:
    jobs = AgentJobs(DirectoryStore(tmp_path / "store"), tmp_path / "notes")
    environ = {**jobs.environ, "LONGTAKE_REMOTE_AUTH": "iam", "LONGTAKE_REMOTE_SECRET": ""}
    async with cloud_run_edge(tmp_path, environ) as edge:
        job = jobs.texts()
        payload = signed(job.order(), "")

        assert edge.result(await edge.service.call(payload)).outcome is RemoteOutcome.PUBLISHED
        assert "begun before" in await refused(edge, payload)


async def test_a_body_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    jobs = AgentJobs(DirectoryStore(tmp_path / "store"), tmp_path / "notes")
    async with cloud_run_edge(tmp_path, jobs.environ) as edge:
        assert edge.app is not None
        port = edge.app.port
        announced = await asyncio.to_thread(_send, port, "Content-Length: 10000000000", b"")
        chunked, sent = await asyncio.to_thread(_flood, port)

    assert announced.startswith(b"HTTP/1.1 413 ")
    assert chunked.startswith(b"HTTP/1.1 413 ")
    # Buffers of two sockets and of the server lie between.
    assert sent < 32 << 20


def _send(port: int, header: str, body: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"POST / HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode() + body)
        return connection.recv(1 << 16)


def _flood(port: int) -> tuple[bytes, int]:
    """Send a body in pieces until the other side has had enough; return its answer and how much that was."""
    piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    sent = 0
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while sent < 64 << 20:
                connection.sendall(piece)
                sent += len(piece)
        except ConnectionError:
            pass
        try:
            return connection.recv(1 << 16), sent
        except ConnectionError:
            return b"", sent
