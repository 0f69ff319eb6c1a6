"""The cache of inputs on a host: fetched once, damaged by nobody for others, within its limit."""

import errno
import hashlib
import json
import multiprocessing
import os
import secrets
import shutil
import stat
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.jobs.inputs import SCENE, HandIn, bytes_in, found_in, job_of
from support.processes.forks import FORKS, make_fork
from support.s3.server import S3Server
from support.s3.stores import bucket_store

from activities.stores.input_cache import InputCache
from activities.stores.job_folder import JobFolder, OpenJob
from activities.stores.scratch import file_lock
from longtake import RenderJobSpec
from longtake.models.inputs import InputManifest, manifest_path
from longtake.models.messages import JobRef
from longtake.stores.factory import open_store
from longtake.stores.store import StoreError

LIMIT = 10**9


@pytest.fixture
def hand_in(s3_server: S3Server, tmp_path: Path) -> HandIn:
    return HandIn(bucket_store(s3_server, tmp_path / "scratch"))


def test_inputs_are_laid_out_as_they_were_handed_in(hand_in: HandIn, tmp_path: Path) -> None:
    handed = hand_in(SCENE, executable="run.sh")
    cache = InputCache(tmp_path / "cache", LIMIT)
    with cache.lay_out(handed.job) as tree:
        assert found_in(tree) == SCENE
        modes = {str(path.relative_to(tree)): stat.S_IMODE(path.stat().st_mode) for path in tree.rglob("*.*")}

    assert modes == {"scene/a.txt": 0o444, "scene/deep/b.txt": 0o444, "twin.txt": 0o444, "run.sh": 0o555}
    assert not tree.exists()
    assert list((tmp_path / "cache" / "uses").iterdir()) == []


def test_a_job_without_inputs_runs_in_an_empty_folder_of_its_own(hand_in: HandIn, tmp_path: Path) -> None:
    handed = hand_in({})
    spec = handed.job.job.model_copy(update={"inputs": ()})
    job = OpenJob(handed.job.folder, handed.job.ref, spec, None)
    cache = InputCache(tmp_path / "cache", LIMIT)
    with cache.lay_out(job) as one, cache.lay_out(job) as other:
        assert one != other
        assert list(one.iterdir()) == list(other.iterdir()) == []


def test_what_one_render_does_in_its_folder_no_other_sees(hand_in: HandIn, tmp_path: Path) -> None:
    handed = hand_in(SCENE)
    cache = InputCache(tmp_path / "cache", LIMIT)
    with cache.lay_out(handed.job) as one, cache.lay_out(handed.job) as other:
        (one / "scene" / "new.txt").write_text("new")
        (one / "scene" / "a.txt").unlink()
        (one / "twin.txt").rename(one / "renamed.txt")
        (one / "closed").mkdir(mode=0o500)
        assert found_in(other) == SCENE
    with cache.lay_out(handed.job) as tree:
        assert found_in(tree) == SCENE


@pytest.mark.parametrize("same_size", [False, True])
def test_an_input_that_a_render_has_overwritten_is_fetched_anew(
    hand_in: HandIn, tmp_path: Path, same_size: bool
) -> None:
    handed = hand_in(SCENE)
    cache = InputCache(tmp_path / "cache", LIMIT)
    with cache.lay_out(handed.job) as tree:
        victim = tree / "scene" / "deep" / "b.txt"
        victim.chmod(0o644)
        victim.write_bytes(b"x" * (1000 if same_size else 10))
    with cache.lay_out(handed.job) as tree:
        assert found_in(tree) == SCENE
        assert stat.S_IMODE((tree / "scene" / "deep" / "b.txt").stat().st_mode) == 0o444


def _use(url: str, cache: str, job: str, barrier: "multiprocessing.Barrier", told: "multiprocessing.Queue") -> None:  # type: ignore[type-arg,valid-type]
    store = open_store(url, scratch=Path(cache).parent / "scratch")
    spec = RenderJobSpec.model_validate_json(job)
    opened = OpenJob(JobFolder(store, "job"), JobRef(id="job", base_dir="", digest="", store=url), spec, None)
    barrier.wait(60)  # type: ignore[attr-defined]
    with InputCache(Path(cache), LIMIT).lay_out(opened) as tree:
        seen = {
            path: [hashlib.sha256(content).hexdigest(), os.stat(tree / path).st_ino]
            for path, content in found_in(tree).items()
        }
        # All still have theirs when the inodes are compared.
        barrier.wait(60)  # type: ignore[attr-defined]
    told.put(json.dumps(seen))


def test_processes_that_come_at_once_fetch_each_content_once(
    hand_in: HandIn, tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    files = {f"d{n % 7}/{n}.bin": secrets.token_bytes(5000) for n in range(30)} | {"big.bin": os.urandom(2 << 20)}
    handed = hand_in(files)
    barrier, told = FORKS.Barrier(3), FORKS.Queue()
    arguments = (handed.store.url, str(tmp_path / "cache"), handed.job.job.model_dump_json(), barrier, told)
    processes = [make_fork(_use, *arguments) for _ in range(3)]
    for process in processes:
        process.start()
    seen = [json.loads(told.get(timeout=120)) for _ in processes]
    for process in processes:
        process.join(60)

    assert [process.exitcode for process in processes] == [0] * 3
    assert {path: digest for path, (digest, _) in seen[0].items()} == {
        path: hashlib.sha256(content).hexdigest() for path, content in files.items()
    }
    # One inode for each content: whoever fetches makes one of its own.
    assert seen[0] == seen[1] == seen[2]
    assert list((tmp_path / "cache" / "uses").iterdir()) == list((tmp_path / "cache" / "locks").iterdir()) == []


def test_disks_that_know_no_links_get_copies(hand_in: HandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handed = hand_in(SCENE, executable="run.sh")
    cache = InputCache(tmp_path / "cache", LIMIT)

    def refuse(source: str, target: str) -> None:
        if not os.path.exists(source):
            raise FileNotFoundError(errno.ENOENT, "gone", source)
        raise OSError(errno.EPERM, "no links here", target)

    monkeypatch.setattr(os, "link", refuse)
    for _ in range(2):
        with cache.lay_out(handed.job) as tree:
            assert found_in(tree) == SCENE
            assert stat.S_IMODE((tree / "run.sh").stat().st_mode) == 0o555
            (tree / "twin.txt").chmod(0o644)
            (tree / "twin.txt").write_bytes(b"damaged, and nobody else's")


def test_a_stop_ends_the_wait_for_another_process(hand_in: HandIn, tmp_path: Path) -> None:
    handed = hand_in({"a.bin": b"a"})
    cache, stop = InputCache(tmp_path / "cache", LIMIT), threading.Event()
    (digest,) = [hashlib.sha256(content).hexdigest() for content in handed.files.values()]
    threading.Timer(0.2, stop.set).start()
    began = time.monotonic()
    with (
        file_lock(tmp_path / "cache" / "locks" / digest),
        pytest.raises(StoreError, match="told to stop"),
        cache.lay_out(handed.job, stop),
    ):
        raise AssertionError("it was stopped")

    assert time.monotonic() - began < 30


@pytest.mark.timed
def test_two_thousand_inputs_are_laid_out_in_a_moment(hand_in: HandIn, tmp_path: Path) -> None:
    handed = hand_in({"one.bin": b"one"})
    (only,) = InputManifest.model_validate_json(
        handed.store.read(handed.store.locate(manifest_path(handed.job.job.inputs.sha256)))  # type: ignore[union-attr]
    ).files
    files = tuple(only.model_copy(update={"path": f"scene/d{n % 50}/{n}.bin"}) for n in range(2000))
    job = job_of(handed.store, InputManifest(files=files))
    cache = InputCache(tmp_path / "cache", LIMIT)
    with cache.lay_out(handed.job):
        pass
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        with cache.lay_out(job) as tree:
            pass
        seconds.append(time.monotonic() - began)
        assert not tree.exists()

    # 0.06 s on a quiet machine.
    assert min(seconds) < 1.2


def test_what_was_not_used_for_longest_goes_first(hand_in: HandIn, tmp_path: Path) -> None:
    jobs = [hand_in({f"{name}.bin": os.urandom(1000)}) for name in "abc"]
    cache = InputCache(tmp_path / "cache", 2500)
    for handed in (jobs[0], jobs[1], jobs[0], jobs[2]):
        with cache.lay_out(handed.job):
            pass
    contents = {path.name for path in (tmp_path / "cache" / "contents").iterdir()}
    kept = {hashlib.sha256(content).hexdigest() for handed in (jobs[0], jobs[2]) for content in handed.files.values()}

    assert contents == kept
    assert len(list((tmp_path / "cache" / "manifests").iterdir())) == 2


def test_what_is_in_use_stays_and_goes_later(hand_in: HandIn, tmp_path: Path) -> None:
    first, second = hand_in({"a.bin": os.urandom(1000)}), hand_in({"b.bin": os.urandom(1000)})
    cache = InputCache(tmp_path / "cache", 0)
    with cache.lay_out(first.job) as one:
        with cache.lay_out(second.job) as other:
            assert bytes_in(tmp_path / "cache") == 2000
            assert (found_in(one), found_in(other)) == (first.files, second.files)
        assert bytes_in(tmp_path / "cache") == 1000
    assert bytes_in(tmp_path / "cache") == 0


def test_a_killed_process_keeps_nothing_in_use(hand_in: HandIn, tmp_path: Path) -> None:
    handed = hand_in(SCENE)
    child = os.fork()
    if child == 0:
        try:
            with ExitStack() as stack:
                stack.enter_context(InputCache(tmp_path / "cache", LIMIT).lay_out(handed.job))
                os.kill(os.getpid(), 9)
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    assert len(list((tmp_path / "cache" / "uses").iterdir())) == 1
    with InputCache(tmp_path / "cache", LIMIT).lay_out(handed.job) as tree:
        assert found_in(tree) == SCENE
        assert len(list((tmp_path / "cache" / "uses").iterdir())) == 1


def test_a_disk_without_room_is_one_sentence_and_nothing_half_made(
    hand_in: HandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = hand_in({"old.bin": os.urandom(1000)}), hand_in({"new.bin": os.urandom(1000)})
    cache = InputCache(tmp_path / "cache", LIMIT)
    with cache.lay_out(old.job):
        pass
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=500))
    with (
        pytest.raises(StoreError, match=r"has 500 bytes free, and inputs of a job take 1,000") as full,
        cache.lay_out(new.job),
    ):
        raise AssertionError("there is no room")

    assert full.value.is_temporary
    # What was there made room first, although the limit would have let it stay.
    assert bytes_in(tmp_path / "cache") == 0
    assert list((tmp_path / "cache" / "uses").iterdir()) == []


def test_a_disk_that_fills_up_meanwhile_leaves_nothing(
    hand_in: HandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed = hand_in(SCENE)
    cache = InputCache(tmp_path / "cache", LIMIT)
    link = os.link

    def no_room(source: str, target: str) -> None:
        if "b.txt" in str(target):
            raise OSError(errno.ENOSPC, "No space left on device", target)
        link(source, target)

    def copy_without_room(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", no_room)
        patch.setattr(shutil, "copyfile", copy_without_room)
        with pytest.raises(StoreError, match="No space left on device") as full, cache.lay_out(handed.job):
            raise AssertionError("there is no room")

    assert full.value.is_temporary
    assert list((tmp_path / "cache" / "uses").iterdir()) == []
    with cache.lay_out(handed.job) as tree:
        assert found_in(tree) == SCENE
