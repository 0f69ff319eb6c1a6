"""The permissions that the deploy notes give an agent: enough to work with, and for its own prefix only."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.farm import eventually
from support.remote.agent_jobs import AgentJobs, read_result
from support.remote.agents import cloud_run_edge
from support.s3.server import S3Server
from support.s3.stores import bucket_store

from activities.remote.protocol import RemoteOutcome
from longtake.stores.s3 import S3Store
from longtake.stores.store import StoreError

pytestmark = pytest.mark.integration

POLICY = Path(__file__).parents[2] / "deploy" / "aws" / "agent-policy.json"


@pytest.fixture
def store(s3_server: S3Server, tmp_path: Path) -> S3Store:
    return bucket_store(s3_server, tmp_path / "worker-scratch", url=f"s3://{s3_server.bucket()}/films")


@pytest.fixture
def policy(store: S3Store) -> list[dict[str, Any]]:
    """The statements about the store, for this bucket."""
    bucket, _, prefix = store.url.removeprefix("s3://").partition("/")
    text = POLICY.read_text().replace("BUCKET", bucket).replace("PREFIX", prefix)
    statements: list[dict[str, Any]] = json.loads(text)["Statement"]
    return [statement for statement in statements if statement["Resource"].startswith("arn:aws:s3:")]


async def test_an_agent_with_these_permissions_does_all_of_its_work(
    s3_server: S3Server, store: S3Store, policy: list[dict[str, Any]], tmp_path: Path
) -> None:
    jobs = AgentJobs(store, tmp_path / "notes")
    credentials = s3_server.session(policy=policy).get_credentials()
    assert credentials is not None
    environ = {
        **s3_server.environment,
        **jobs.environ,
        "AWS_ACCESS_KEY_ID": credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
        "AWS_SESSION_TOKEN": credentials.token or "",
    }
    async with cloud_run_edge(tmp_path, environ) as edge:
        # More than goes up in one piece.
        large = jobs.accept(command=("sh", "-c", "head -c 40000000 /dev/zero > {output}"))
        assert (await edge.render(large.order())).outcome is RemoteOutcome.PUBLISHED
        assert store.stat(large.job.target(large.job.chunks[0].outputs()[0])) is not None

        images = jobs.images("--gate", "NOTES/gate", "--gate-at", "5")
        order = images.order()
        call = edge.call(order)
        await eventually(lambda: bool(images.ledger.lines("waiting")), "five frames are rendered")
        images.calls().order_stop(order.attempt, "enough")
        assert (await read_result(images, order)).outcome is RemoteOutcome.STOPPED
        await call
        (images.notes / "gate").touch()
        assert (await edge.render(images.order())).outcome is RemoteOutcome.PUBLISHED
        assert images.kept() == []
        assert "denies" not in edge.log


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.create(store.locate("film.mov"), b"x"),
        lambda store: store.read(store.locate("there")),
        lambda store: store.remove(store.locate("there")),
    ],
)
def test_beside_its_prefix_an_agent_may_do_nothing(
    s3_server: S3Server, store: S3Store, policy: list[dict[str, Any]], tmp_path: Path, ask: Callable[[S3Store], object]
) -> None:
    url = f"{store.url}-of-others"
    bucket_store(s3_server, tmp_path / "x", url=url).create(f"{url}/there", b"x")
    beside = bucket_store(s3_server, tmp_path / "y", url=url, session=s3_server.session(policy=policy))

    with pytest.raises(StoreError, match="denies"):
        ask(beside)
