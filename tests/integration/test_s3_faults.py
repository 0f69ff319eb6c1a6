"""A way to a bucket on which things go wrong for a while: work goes on, nothing is lost, and nobody wins twice."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.s3.faulty_proxy import Spoil
from support.s3.faulty_store import CONTENTS, LARGE, SMALL, FaultyScene, faulty_scene
from support.s3.server import S3Server

from longtake.stores.store import StoreError

pytestmark = pytest.mark.integration

WHOLE_PUT = r"PUT .*/film\.mov$"

# The calls that carry a file, in one piece and in parts.
sends = pytest.mark.parametrize(
    ("content", "call"),
    [pytest.param(SMALL, WHOLE_PUT, id="small"), pytest.param(LARGE, "PUT .*partNumber=2", id="large")],
)
# Those that make it appear.
appears = pytest.mark.parametrize(
    ("content", "call"),
    [pytest.param(SMALL, WHOLE_PUT, id="small"), pytest.param(LARGE, "POST .*uploadId=", id="large")],
)
sizes = pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)


@pytest.fixture
def scene(s3_server: S3Server, tmp_path: Path) -> Iterator[FaultyScene]:
    with faulty_scene(s3_server, tmp_path) as offered:
        yield offered


@sends
@pytest.mark.parametrize(
    "spoil", [Spoil.RESET_IN_BODY, Spoil.RESET_AFTER, Spoil.ERROR, Spoil.ERROR_AFTER, Spoil.FLIP_UP]
)
def test_an_upload_goes_on_after_faults(scene: FaultyScene, content: bytes, call: str, spoil: Spoil) -> None:
    fault = scene.way.spoil(spoil, call, times=2)
    # Also where the first try has made the file, and a later one finds it.
    assert scene.store.put(scene.made(content), scene.film)
    assert fault.met == 2
    assert scene.direct().read(scene.film) == content
    assert scene.store.digest(scene.film) == hashlib.sha256(content).hexdigest()


@appears
@pytest.mark.parametrize("spoil", [Spoil.RESET_AFTER, Spoil.ERROR_AFTER, Spoil.ERROR])
def test_who_made_a_file_knows_it_although_the_answer_was_lost(
    scene: FaultyScene, content: bytes, call: str, spoil: Spoil
) -> None:
    scene.way.spoil(spoil, call, status=500, code="InternalError")
    assert scene.store.put(scene.made(content), scene.film)
    assert scene.direct().read(scene.film) == content


@pytest.mark.parametrize("spoil", [Spoil.RESET_AFTER, Spoil.ERROR_AFTER, Spoil.RESET_IN_BODY, Spoil.ERROR])
def test_the_loser_of_a_claim_does_not_take_the_winners_for_its_own(scene: FaultyScene, spoil: Spoil) -> None:
    # The same content: only who wrote it can tell them apart.
    assert scene.store.create(scene.film, b"claim")
    scene.way.spoil(spoil, WHOLE_PUT)
    assert not scene.store.create(scene.film, b"claim")


@pytest.mark.parametrize("spoil", [Spoil.RESET_AFTER, Spoil.ERROR_AFTER])
def test_the_winner_of_a_claim_knows_its_own(scene: FaultyScene, spoil: Spoil) -> None:
    scene.way.spoil(spoil, WHOLE_PUT)
    assert scene.store.create(scene.film, b"claim")
    assert not scene.store.create(scene.film, b"claim")


def test_a_claim_that_is_withdrawn_while_its_winner_is_looked_for_is_made_again(scene: FaultyScene) -> None:
    scene.way.spoil(Spoil.RESET_AFTER, WHOLE_PUT)
    direct = scene.direct()
    scene.way.before = lambda name: direct.remove(scene.film) if name.startswith("HEAD") else None
    assert scene.store.create(scene.film, b"claim")
    assert direct.read(scene.film) == b"claim"


@appears
def test_writers_that_meet_are_asked_to_try_again(scene: FaultyScene, content: bytes, call: str) -> None:
    scene.way.spoil(Spoil.ERROR, call, times=2, status=409, code="ConditionalRequestConflict")
    assert scene.store.put(scene.made(content), scene.film)
    assert scene.direct().read(scene.film) == content


def test_a_file_that_appears_while_a_large_one_is_sent_is_left_as_it_is(scene: FaultyScene) -> None:
    direct = scene.direct()

    def first(name: str) -> None:
        if "partNumber=2" in name:
            direct.create(scene.film, b"another's")

    scene.way.before = first
    assert not scene.store.put(scene.made(LARGE), scene.film)
    assert direct.read(scene.film) == b"another's"


@pytest.mark.parametrize(("content", "call"), [(SMALL, r"PUT .*/copy\.mov$"), (LARGE, "PUT .*partNumber=1")])
@pytest.mark.parametrize("spoil", [Spoil.RESET_AFTER, Spoil.ERROR])
def test_a_copy_goes_on_after_a_fault(scene: FaultyScene, content: bytes, call: str, spoil: Spoil) -> None:
    scene.store.put(scene.made(content), scene.film)
    scene.way.spoil(spoil, call)
    assert scene.store.copy(scene.film, scene.copy)
    assert scene.direct().read(scene.copy) == content
    assert scene.store.digest(scene.copy) == hashlib.sha256(content).hexdigest()


@sizes
@pytest.mark.parametrize("spoil", [Spoil.RESET_IN_ANSWER, Spoil.RESET_AFTER, Spoil.ERROR])
def test_a_download_goes_on_after_faults(scene: FaultyScene, content: bytes, spoil: Spoil) -> None:
    scene.store.put(scene.made(content), scene.film)
    fault = scene.way.spoil(spoil, r"GET .*/film\.mov", times=3)
    assert scene.store.download(scene.film, scene.folder / "brought").read_bytes() == content
    assert fault.met == 3


@pytest.mark.parametrize("code", ["SlowDown", "InternalError", "RequestTimeout", "ServiceUnavailable"])
def test_listings_and_removals_go_on_after_faults(scene: FaultyScene, code: str) -> None:
    for index in range(3):
        scene.store.create(scene.store.locate(f"folder/{index}"), b"x")
    status = 400 if code == "RequestTimeout" else 503
    listing = scene.way.spoil(Spoil.ERROR, "GET .*list-type=2", times=2, status=status, code=code)
    assert scene.store.names(scene.store.locate("folder")) == ["0", "1", "2"]
    removal = scene.way.spoil(Spoil.RESET_AFTER, "POST .*delete", times=2)
    scene.store.remove_all(scene.store.locate("folder"))
    assert (listing.met, removal.met) == (2, 2)
    assert scene.store.names(scene.store.locate("folder")) == []


@sends
def test_a_store_that_stays_busy_is_said_to_be(scene: FaultyScene, content: bytes, call: str) -> None:
    scene.way.spoil(Spoil.ERROR, call, times=1000)
    with pytest.raises(StoreError) as raised:
        scene.impatient().put(scene.made(content), scene.film)
    assert "busy or in trouble (SlowDown" in scene.said(raised.value)
    assert raised.value.is_temporary
    assert scene.store.stat(scene.film) is None


@sends
def test_a_connection_that_always_breaks_is_said_to(scene: FaultyScene, content: bytes, call: str) -> None:
    scene.way.spoil(Spoil.RESET_IN_BODY, call, times=1000)
    with pytest.raises(StoreError) as raised:
        scene.impatient().put(scene.made(content), scene.film)
    assert "the store does not answer" in scene.said(raised.value)
    assert raised.value.is_temporary
    assert scene.store.stat(scene.film) is None


@sends
def test_a_way_that_always_damages_is_found_out(scene: FaultyScene, content: bytes, call: str) -> None:
    scene.way.spoil(Spoil.FLIP_UP, call, times=1000)
    with pytest.raises(StoreError) as raised:
        scene.store.put(scene.made(content), scene.film)
    assert "does not arrive at the store as it leaves this host" in scene.said(raised.value)
    assert scene.store.stat(scene.film) is None


@sizes
def test_a_download_that_was_damaged_is_thrown_away(scene: FaultyScene, content: bytes) -> None:
    into = scene.folder / "brought"
    into.write_bytes(b"what was there")
    scene.store.put(scene.made(content), scene.film)
    scene.way.spoil(Spoil.FLIP_DOWN, r"GET .*/film\.mov")
    with pytest.raises(StoreError) as raised:
        scene.store.download(scene.film, into)
    assert "damaged on its way here" in scene.said(raised.value)
    assert raised.value.is_temporary
    assert into.read_bytes() == b"what was there"
    assert scene.store.download(scene.film, into).read_bytes() == content
    scene.way.spoil(Spoil.FLIP_DOWN, r"GET .*/film\.mov")
    with pytest.raises(StoreError, match="damaged"):
        scene.store.read(scene.film)


def test_another_content_than_the_wanted_one_is_refused(scene: FaultyScene) -> None:
    scene.store.create(scene.film, SMALL)
    with pytest.raises(StoreError) as raised:
        scene.store.download(scene.film, scene.folder / "brought", sha256="0" * 64)
    assert "it has another content" in scene.said(raised.value)
    assert not raised.value.is_temporary
    assert not (scene.folder / "brought").exists()


def test_an_upload_whose_writer_died_before_its_end_is_ended_by_the_next(scene: FaultyScene) -> None:
    # All that a writer does from the end of its upload on is lost, as when its host loses power.
    for call in (r"POST .*uploadId=", r"DELETE .*uploadId=", r"DELETE .*\.upload$"):
        scene.way.spoil(Spoil.ERROR, call, times=1000, status=403, code="AccessDenied")
    with pytest.raises(StoreError):
        scene.impatient().put(scene.made(LARGE), scene.film)
    assert scene.direct().stat(scene.film) is None
    other = scene.made(LARGE[::-1])

    assert not scene.direct().put(other, scene.film)

    assert scene.direct().read(scene.film) == LARGE
    scene.direct().remove(scene.film)
    assert scene.direct().put(other, scene.film)
    assert scene.direct().read(scene.film) == LARGE[::-1]
    assert keys_of(scene) == ["film.mov"]


def test_the_claim_of_a_writer_whose_upload_is_gone_is_in_nobodys_way(scene: FaultyScene) -> None:
    for call in (r"POST .*uploadId=", r"DELETE .*\.upload$"):
        scene.way.spoil(Spoil.ERROR, call, times=1000, status=403, code="AccessDenied")
    with pytest.raises(StoreError):
        scene.impatient().put(scene.made(LARGE), scene.film)
    assert len(keys_of(scene)) == 1

    assert scene.direct().put(scene.made(LARGE), scene.film)

    assert keys_of(scene) == ["film.mov"]


def keys_of(scene: FaultyScene) -> list[str]:
    """Return the names of all objects of the store, hidden ones too."""
    bucket, _, prefix = scene.store.url.removeprefix("s3://").partition("/")
    listed = scene.s3_server.client().list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/").get("Contents", [])
    return [found["Key"].removeprefix(f"{prefix}/") for found in listed]
