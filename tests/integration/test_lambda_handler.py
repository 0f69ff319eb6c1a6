"""The Lambda handler in AWS's own runtime client."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.farm import eventually
from support.remote.agent_jobs import AgentJobs, carriers, signed
from support.remote.agents import Edge, lambda_edge
from support.servers.http_server import Connection, HttpServer, Request

from activities.remote.protocol import RemoteOutcome
from longtake.stores.directory import DirectoryStore

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:longtake-AbCdEf"


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> AgentJobs:
    folder = tmp_path_factory.mktemp("jobs")
    return AgentJobs(DirectoryStore(folder / "store"), folder / "notes")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edge(jobs: AgentJobs, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    async with lambda_edge(tmp_path_factory.mktemp("edge"), jobs.environ) as edge:
        yield edge


async def answered(edge: Edge, payload: Any) -> Any:
    answer = await edge.service.call(payload)
    assert "x-amz-function-error" not in answer.headers, answer.body
    return json.loads(answer.body)


async def test_nothing_is_left_running_when_it_returns(jobs: AgentJobs, edge: Edge) -> None:
    """Lambda freezes what is left, and continues it in the middle of the next invocation."""
    assert edge.function is not None
    job = jobs.texts("--child")
    order = job.order()

    result = await edge.render(order)

    assert result.outcome is RemoteOutcome.PUBLISHED
    assert carriers(order) == []
    (environment,) = edge.function.environments
    assert [process.pid for process in environment.processes()] == [environment.pid]


async def test_an_environment_serves_one_invocation_after_the_other(jobs: AgentJobs, edge: Edge) -> None:
    assert edge.function is not None
    for _ in range(2):
        job = jobs.texts("--exit", "3")
        assert (await edge.render(job.order())).outcome is RemoteOutcome.FAILED
        assert (await edge.render(jobs.texts().order())).outcome is RemoteOutcome.PUBLISHED

    assert len(edge.function.environments) == 1
    assert edge.function.environments[0].is_usable


async def test_the_result_says_what_lambda_bills(jobs: AgentJobs, edge: Edge) -> None:
    assert edge.function is not None
    job = jobs.texts("--seconds", "2")

    result = await edge.render(job.order())

    billed = edge.function.invocations[-1].billed_seconds
    assert result.memory_mb == 2048
    assert result.billed_seconds == pytest.approx(billed, rel=0.05, abs=0.15)


async def test_refusals_are_answers_and_no_crashes(jobs: AgentJobs, edge: Edge) -> None:
    job = jobs.texts()
    good = signed(job.order())
    assert (await answered(edge, good))["outcome"] == "published"

    for payload, said in (
        (good, "begun before"),
        ({**good, "signature": ""}, "not signed"),
        ({"order": None}, "no order"),
        ({"order": "x", "padding": "x" * 70_000}, "bytes"),
    ):
        assert said in (await answered(edge, payload))["refused"]
    assert "Traceback" not in edge.log


async def test_settings_that_do_not_do_are_told_to_the_worker(jobs: AgentJobs, tmp_path: Path) -> None:
    async with lambda_edge(tmp_path, {**jobs.environ, "LONGTAKE_STORES": ""}) as edge:
        assert "LONGTAKE_STORES is not set" in (await answered(edge, signed(jobs.texts().order())))["refused"]
        assert await answered(edge, {"jobPath": "x", "chunkIndex": 0}) == {
            "statusCode": 500,
            "body": json.dumps({"message": (await answered(edge, signed(jobs.texts().order())))["refused"]}),
        }


async def test_a_function_that_lambda_ends_leaves_no_process(jobs: AgentJobs, tmp_path: Path) -> None:
    """Its memory may be too small, or its margin: nothing can be said any more, and the platform ends it all."""
    async with lambda_edge(tmp_path, {**jobs.environ, "LONGTAKE_MARGIN_SECONDS": "0"}, timeout=4) as edge:
        job = jobs.trees("ignores")
        order = job.order()
        answer = await edge.service.call(signed(order))

        assert "x-amz-function-error" in answer.headers or edge.result(answer).outcome is RemoteOutcome.OUT_OF_TIME
        await eventually(lambda: not carriers(order), "the tree is gone")


class SecretsManager:
    """As much of AWS Secrets Manager as gives one secret."""

    def __init__(self, secret: str | None) -> None:
        self.secret = secret
        self.asked: list[Any] = []

    async def answer(self, connection: Connection, request: Request) -> None:
        self.asked.append(json.loads(request.body))
        assert request.headers["x-amz-target"] == "secretsmanager.GetSecretValue"
        if self.secret is None:
            body = {"__type": "AccessDeniedException", "Message": "User: x is not authorized"}
            return await connection.respond_json(400, body)
        await connection.respond_json(200, {"ARN": ARN, "Name": "longtake", "SecretString": self.secret})


@pytest.mark.parametrize("known", [True, False])
async def test_the_secret_may_come_from_secrets_manager(jobs: AgentJobs, tmp_path: Path, known: bool) -> None:
    manager = SecretsManager(jobs.secret if known else None)
    server = HttpServer(manager.answer)
    await server.start()
    environ = {
        **jobs.environ,
        "LONGTAKE_REMOTE_SECRET": "",
        "LONGTAKE_REMOTE_SECRET_ARN": ARN,
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": f"http://{server.address}",
    }
    try:
        async with lambda_edge(tmp_path, environ) as edge:
            answers = [await answered(edge, signed(jobs.texts().order())) for _ in range(2)]
    finally:
        await server.close()

    if known:
        assert [answer["outcome"] for answer in answers] == ["published", "published"]
        assert manager.asked == [{"SecretId": ARN}], "asked once an instance"
    else:
        assert "secretsmanager:GetSecretValue" in answers[0]["refused"]
        assert "AccessDeniedException" in answers[0]["refused"]
