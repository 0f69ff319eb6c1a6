"""The S3 server of the box: what the key of its workers may do, and what is there again after a restart."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError
from support.s3.server import SERVER, S3Server, run_s3_server
from support.s3.stores import SMALL_PART_BYTES, bucket_store

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.integration, pytest.mark.slow]

BUCKET = SERVER.with_name("bucket.py")
EVERYBODY = (
    '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "*"}]}'
)


def setup(server: S3Server) -> subprocess.CompletedProcess[str]:
    """Run what makes the bucket, as the one-shot service of the compose file does."""
    worker = server.worker_session().get_credentials()
    assert worker is not None
    environment = {
        **os.environ,
        "S3_ENDPOINT": server.url,
        "S3_ADMIN_ACCESS_KEY": server.access_key,
        "S3_ADMIN_SECRET_KEY": server.secret_key,
        "AWS_ACCESS_KEY_ID": str(worker.access_key),
        "AWS_SECRET_ACCESS_KEY": str(worker.secret_key),
    }
    return subprocess.run([sys.executable, str(BUCKET)], env=environment, capture_output=True, text=True, timeout=90)


@pytest.fixture
def worker(s3_server: S3Server) -> "S3Client":
    """A client with the key of the workers, and a bucket that is not theirs."""
    assert setup(s3_server).returncode == 0
    s3_server.client().put_object(Bucket=s3_server.bucket("not-longtake"), Key="there", Body=b"x")
    return s3_server.worker_session().client("s3", endpoint_url=s3_server.url)


def test_making_the_bucket_again_changes_nothing(s3_server: S3Server) -> None:
    for _ in range(2):
        done = setup(s3_server)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.usefixtures("worker")
def test_workers_do_all_of_their_work_with_their_key(
    s3_server: S3Server, tmp_path: Path, local_file: Callable[[bytes], Path]
) -> None:
    url = f"s3://longtake/films/{os.urandom(6).hex()}"
    store = bucket_store(s3_server, tmp_path / "scratch", url=url, session=s3_server.worker_session())
    large = os.urandom(SMALL_PART_BYTES + 7)
    assert store.create(f"{url}/small", b"content")
    assert store.put(local_file(large), f"{url}/f/large")
    assert not store.put(local_file(large), f"{url}/f/large")
    assert store.copy(f"{url}/f/large", f"{url}/f/copy")
    assert store.read(f"{url}/f/copy") == large
    assert (store.names(url), list(store.folders(url))) == (["small"], ["f"])
    store.remove_all(f"{url}/f")
    store.remove(f"{url}/small")
    assert (store.names(url), list(store.folders(url))) == ([], [])


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.create_bucket(Bucket="elsewhere"),
        lambda client: client.put_object(Bucket="elsewhere", Key="x", Body=b"x"),
        lambda client: client.put_object(Bucket="not-longtake", Key="x", Body=b"x"),
        lambda client: client.get_object(Bucket="not-longtake", Key="there"),
        lambda client: client.list_objects_v2(Bucket="not-longtake"),
        lambda client: client.delete_object(Bucket="not-longtake", Key="there"),
        lambda client: client.put_bucket_policy(Bucket="longtake", Policy=EVERYBODY),
        lambda client: client.delete_bucket(Bucket="longtake"),
    ],
)
def test_beside_their_bucket_workers_may_do_nothing(worker: "S3Client", ask: Callable[["S3Client"], object]) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        ask(worker)


@pytest.mark.parametrize("key", ["", "with space", 'quote"', "back\\slash"])
def test_a_key_that_cannot_be_written_down_is_one_sentence(key: str, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "S3_DATA": str(tmp_path), "S3_ADMIN_ACCESS_KEY": "admin"}
    environment |= {"S3_ADMIN_SECRET_KEY": key, "AWS_ACCESS_KEY_ID": "longtake", "AWS_SECRET_ACCESS_KEY": "secret"}

    done = subprocess.run(["sh", str(SERVER)], env=environment, capture_output=True, text=True, timeout=30)

    assert done.returncode == 2
    assert done.stderr.endswith("must be letters, digits and /+=_- alone: mend them in .env\n")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_it_has_answered_for_is_there_after_a_kill(tmp_path: Path) -> None:
    content = os.urandom(SMALL_PART_BYTES * 2 + 7)
    with run_s3_server(tmp_path / "server") as first:
        client = first.client()
        client.put_object(Bucket=first.bucket("films"), Key="small", Body=content[:1000])
        client.upload_file(str(_written(tmp_path / "large", content)), "films", "folder/large")
        (tmp_path / "server" / "data").rename(tmp_path / "kept")
    (tmp_path / "kept").rename(tmp_path / "server" / "data")

    # On other ports, those of its parts among them.
    with run_s3_server(tmp_path / "server", access_key=first.access_key, secret_key=first.secret_key) as second:
        client = second.client()
        assert client.get_object(Bucket="films", Key="small")["Body"].read() == content[:1000]
        assert client.get_object(Bucket="films", Key="folder/large")["Body"].read() == content
        client.put_object(Bucket="films", Key="another", Body=b"x")


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
