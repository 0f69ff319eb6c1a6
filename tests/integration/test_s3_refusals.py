"""What a bucket refuses for good, or is asked wrongly: one sentence with the fix, and no secret in it."""

import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import boto3
import pytest
from botocore.compat import get_current_datetime
from support.s3.faulty_proxy import Spoil
from support.s3.faulty_store import LARGE, LITTLE_PATIENCE, SMALL, FaultyScene, faulty_scene
from support.s3.server import S3Server
from support.s3.stores import SMALL_PART_BYTES, bucket_store

from longtake.errors import BadJobError
from longtake.stores.factory import open_store
from longtake.stores.s3 import S3Store, make_s3_client
from longtake.stores.store import StoreError
from ports import find_free_port

pytestmark = pytest.mark.integration


@pytest.fixture
def scene(s3_server: S3Server, tmp_path: Path) -> Iterator[FaultyScene]:
    with faulty_scene(s3_server, tmp_path) as offered:
        yield offered


def asks(store: S3Store, folder: Path) -> list[Callable[[], object]]:
    """Return every way to ask a store."""
    file, large = folder / "file", folder / "large"
    file.write_bytes(SMALL)
    large.write_bytes(LARGE)
    where = store.locate("film.mov")
    return [
        lambda: store.stat(where),
        lambda: store.read(where),
        lambda: store.create(where, b"x"),
        lambda: store.replace(where, b"x"),
        lambda: store.put(file, where),
        lambda: store.put(large, where),
        lambda: store.copy(where, store.locate("copy")),
        lambda: store.move(where, store.locate("copy")),
        lambda: store.download(where, folder / "brought"),
        lambda: store.digest(where),
        lambda: store.names(store.url),
        lambda: list(store.folders(store.url)),
        lambda: store.remove(where),
        lambda: store.remove_all(store.locate("folder")),
    ]


def test_a_wrong_secret_key_is_said_to_be_one(scene: FaultyScene) -> None:
    store = bucket_store(scene.s3_server, scene.folder, url=scene.store.url, secret_key="not-the-secret-key")
    for ask in asks(store, scene.folder):
        with pytest.raises(StoreError) as raised:
            ask()
        said = scene.said(raised.value)
        assert "the secret key does not belong to the access key; mend the AWS credentials" in said
        assert "not-the-secret-key" not in said
        assert not raised.value.is_temporary


def test_a_bucket_that_is_not_there_is_said_not_to_be(scene: FaultyScene) -> None:
    store = bucket_store(scene.s3_server, scene.folder, url="s3://no-such-bucket/job")
    for ask in asks(store, scene.folder)[1:]:
        with pytest.raises(OSError, match=r".+") as raised:
            ask()
        # A HEAD cannot tell a missing bucket from a missing file.
        if not isinstance(raised.value, FileNotFoundError):
            assert isinstance(raised.value, StoreError)
            assert "there is no such bucket; make it" in scene.said(raised.value)
            assert not raised.value.is_temporary


def restricted(scene: FaultyScene, *denied: str, below: str = "*") -> S3Store:
    """Return the same store with credentials that the server denies some actions."""
    bucket = scene.store.url.removeprefix("s3://").partition("/")[0]
    where = [f"arn:aws:s3:::{bucket}/{below}", f"arn:aws:s3:::{bucket}"]
    statements: list[dict[str, object]] = [
        {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["*"]},
        {"Effect": "Deny", "Action": list(denied), "Resource": where},
    ]
    return bucket_store(
        scene.s3_server, scene.folder, url=scene.store.url, session=scene.s3_server.session(policy=statements)
    )


@pytest.mark.parametrize(
    ("permission", "ask"),
    [
        ("s3:PutObject", lambda store, file: store.create(store.locate("film.mov"), b"x")),
        ("s3:PutObject", lambda store, file: store.put(file, store.locate("film.mov"))),
        ("s3:GetObject", lambda store, file: store.read(store.locate("there"))),
        ("s3:GetObject", lambda store, file: store.stat(store.locate("there"))),
        ("s3:ListBucket", lambda store, file: store.names(store.url)),
        ("s3:DeleteObject", lambda store, file: store.remove(store.locate("there"))),
        ("s3:DeleteObject", lambda store, file: store.remove_all(store.locate("folder"))),
    ],
)
def test_what_is_denied_names_the_permission(
    scene: FaultyScene, permission: str, ask: Callable[[S3Store, Path], object]
) -> None:
    for name in ("there", "folder/kept"):
        scene.store.create(scene.store.locate(name), b"x")
    store = restricted(scene, permission)
    with pytest.raises(StoreError) as raised:
        ask(store, scene.made(LARGE))
    assert re.search(f"the store denies it; allow {permission}(?!\\w)", scene.said(raised.value))
    assert not raised.value.is_temporary


def test_what_cannot_be_removed_is_named_and_the_rest_is_gone(scene: FaultyScene) -> None:
    for name in ("folder/a", "folder/kept", "folder/z"):
        scene.store.create(scene.store.locate(name), b"x")
    with pytest.raises(StoreError) as raised:
        restricted(scene, "s3:DeleteObject", below="*/kept").remove_all(scene.store.locate("folder"))
    assert scene.said(raised.value).startswith(f"{scene.store.url}/folder/kept: the store denies it")
    assert scene.store.names(scene.store.locate("folder")) == ["kept"]


def test_a_clock_that_is_wrong_is_said_to_be(scene: FaultyScene, monkeypatch: pytest.MonkeyPatch) -> None:
    right = get_current_datetime

    def wrong(remove_tzinfo: bool = True) -> datetime:
        return right(remove_tzinfo) + timedelta(hours=1)

    # This host's clock as signatures read it, boto3's and ours; what the server answers to it is real.
    monkeypatch.setattr("botocore.auth.get_current_datetime", wrong)
    monkeypatch.setattr("longtake.stores.s3_signature.read_clock", lambda: time.time() + 3600)
    for ask in asks(scene.store, scene.folder):
        with pytest.raises(StoreError) as raised:
            ask()
        assert "the clock of this host and that of the store are more than 15 minutes apart" in scene.said(raised.value)
        assert not raised.value.is_temporary


def test_expired_credentials_are_read_anew_once(scene: FaultyScene) -> None:
    renewals: list[int] = []

    def renew() -> "object":
        renewals.append(1)
        return make_s3_client(
            boto3.Session(scene.s3_server.access_key, scene.s3_server.secret_key, region_name="us-east-1"),
            endpoint_url=scene.way.url,
        )

    expired = boto3.Session("EXPIREDKEY0123456789", "secret", "token", region_name="us-east-1")
    for status in (400, 403):
        store = S3Store(
            scene.store.url,
            make_s3_client(expired, endpoint_url=scene.way.url),
            scratch=scene.folder,
            renew=renew,  # type: ignore[arg-type]
            part_bytes=SMALL_PART_BYTES,
        )
        scene.way.spoil(Spoil.ERROR, ".", times=1, status=status, code="ExpiredToken", key="EXPIREDKEY0123456789")
        where = store.locate(f"film-{status}.mov")
        assert store.put(scene.made(LARGE if status == 400 else SMALL), where)
    assert len(renewals) == 2


def test_credentials_that_stay_expired_are_said_to_be(scene: FaultyScene) -> None:
    scene.way.spoil(Spoil.ERROR, ".", times=1000, status=400, code="ExpiredToken")
    for ask in asks(scene.store, scene.folder)[1:]:
        with pytest.raises(StoreError) as raised:
            ask()
        assert "the AWS credentials of this host have expired; mend" in scene.said(raised.value)
        assert not raised.value.is_temporary


def test_a_host_without_credentials_is_told_what_to_do(
    scene: FaultyScene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in scene.s3_server.environment.items():
        monkeypatch.delenv(name, raising=False) if "KEY" in name else monkeypatch.setenv(name, value)
    store = open_store(scene.store.url, scratch=tmp_path)
    with pytest.raises(StoreError) as raised:
        store.create(store.locate("film.mov"), b"x")
    assert "this host has no AWS credentials for the store; mend" in scene.said(raised.value)


def test_a_store_that_is_away_is_waited_for_and_said_to_be(scene: FaultyScene) -> None:
    url = f"http://127.0.0.1:{find_free_port()}"
    store = bucket_store(scene.s3_server, scene.folder, url=scene.store.url, endpoint=url, patience=LITTLE_PATIENCE)
    for ask in asks(store, scene.folder):
        with pytest.raises(StoreError) as raised:
            ask()
        assert "the store does not answer (EndpointConnectionError)" in scene.said(raised.value)
        assert raised.value.is_temporary


def test_a_store_opens_by_the_settings_of_the_host(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    store = open_store(f"s3://{s3_server.bucket('stores')}/opened/", scratch=tmp_path)
    assert store.url == "s3://stores/opened"
    assert not store.is_local
    assert store.create(store.locate("a b"), b"x")
    store.remove_all(store.locate("a b"))
    assert store.read("s3://stores/opened/a b") == b"x"
    store.remove("s3://stores/opened/a b")


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [("AWS_ENDPOINT_URL_S3", "no address", "write AWS_ENDPOINT_URL_S3"), ("AWS_PROFILE", "nobody", "mend AWS_PROFILE")],
)
def test_settings_that_cannot_be_used_are_named(
    name: str, value: str, fix: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadJobError, match=rf"^store: s3://bucket/job is .+; {fix}"):
        open_store("s3://bucket/job", scratch=tmp_path)


@pytest.mark.parametrize("url", ["s3://", "s3:///x", "s3://Bucket/x", "s3://b", "s3://bucket/../x", "s3://bucket/a//b"])
def test_a_url_that_names_no_bucket_is_a_bad_job(url: str, tmp_path: Path) -> None:
    with pytest.raises(BadJobError, match=rf"^store: {re.escape(url)} .+; .+"):
        open_store(url, scratch=tmp_path)


def test_uploads_that_were_left_are_aborted_with_their_folder(scene: FaultyScene) -> None:
    client = scene.s3_server.client()
    bucket, _, prefix = scene.store.url.removeprefix("s3://").partition("/")
    keys = [f"{prefix}/job/film.mov", f"{prefix}/job/deep/film.mov", f"{prefix}/job2/film.mov"]
    begun = {key: client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"] for key in keys}
    client.upload_part(Bucket=bucket, Key=keys[0], UploadId=begun[keys[0]], PartNumber=1, Body=b"x")
    scene.store.remove_all(scene.store.locate("job"))
    left = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    assert [upload["Key"] for upload in left if upload["Key"].startswith(prefix)] == [keys[2]]
    scene.store.remove_all(scene.store.locate("job2"))
