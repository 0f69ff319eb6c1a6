"""Chunks rendered in bursts: published as if each were rendered alone, and what is unusual is told the same."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.farm import eventually
from support.processes.process_table import state_of, survivors
from support.processes.supervisors import supervisor_fixture
from temporalio.testing import ActivityEnvironment

from activities.attempts import chunk_bursts
from activities.attempts.burst_folders import BurstFolders, BurstPlace
from activities.attempts.chunk_attempt import ChunkAttempt
from activities.attempts.chunk_bursts import ChunkBursts
from activities.attempts.host import build_host
from activities.attempts.span_attempt import RetryError, SpanAttempt
from activities.backends.local import LocalBackend
from activities.job_watch import JobOrders, JobWatch
from activities.processes.linux_table import HAS_EXACT_TREES
from activities.processes.supervisor import Supervisor
from activities.settings import WorkerSettings
from activities.stores.job_folder import JobFolder, OpenJob, Sidecar, encode_job
from longtake.models.frames import FrameRange
from longtake.models.job import RenderJobSpec
from longtake.models.messages import Heartbeat, JobRef, SpanOrder
from longtake.names import Control
from longtake.ranges import Range
from longtake.stores.directory import DirectoryStore
from longtake.stores.job_records import compute_integrity

pytestmark = pytest.mark.skipif(not HAS_EXACT_TREES, reason="bursts need a subreaper")

CHUNKS = 24
JOB = f"bursts-{os.getpid()}"


class Scene:
    """A job of short chunks, of which one is another than the rest, on a host of its own."""

    def __init__(self, root: Path, supervisor: Supervisor, unusual: str = "", **fields: Any) -> None:
        self.store = root / "store"
        self.store.mkdir()
        common = "echo {chunk} >> begun; "
        script = f'if [ {{chunk}} = 9 ]; then {unusual or ":"}; fi; [ -e "$0" ] || echo {{chunk}} > "$0"'
        self.job = RenderJobSpec.model_validate(
            {
                "frames": FrameRange(count=CHUNKS, per_chunk=1),
                "base_dir": str(self.store),
                "command": ("sh", "-c", common + script, "{output}"),
                "chunk_output": "out/{chunk:06}.txt",
                "retry": {"attempts": 1},
                **fields,
            }
        )
        folder = JobFolder(DirectoryStore(self.store), JOB)
        folder.create(self.job, None)
        integrity = compute_integrity(encode_job(self.job), None)
        ref = JobRef(id=JOB, base_dir=str(self.store), digest=self.job.digest(), integrity=integrity)
        settings = WorkerSettings(task_queue="q", roots=(self.store,), slots=1, scratch=root / "scratch")
        self.host = build_host(settings, supervisor, tools=root / "tools")
        self.opened = OpenJob.read(ref, scratch=self.host.scratch)
        self.bursts: list[int] = []

    def span(self, before: Heartbeat | None = None, *, published: tuple[Range, ...] = ()) -> SpanAttempt:
        order = SpanOrder(ref=self.opened.ref, start=0, stop=CHUNKS, published=published)
        return SpanAttempt(self.host, ChunkAttempt, None, self.opened, order, before or Heartbeat(chunk=0))

    async def render(self, span: SpanAttempt, orders: Callable[[], JobOrders] = JobOrders) -> None:
        async def ask(seconds: float) -> JobOrders:
            return orders()

        async def work() -> None:
            watch = JobWatch(ask, contact_seconds=30)
            polling = asyncio.create_task(watch.poll(lambda _: 0.01))
            try:
                await span.render(watch)
            finally:
                polling.cancel()

        await ActivityEnvironment().run(work)

    @property
    def begun(self) -> list[int]:
        path = self.store / "begun"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def records(self) -> dict[int, Sidecar]:
        return {int(each.key): each for each in self.opened.folder.finished_sidecars()}

    def files(self, name: str) -> list[str]:
        return sorted(path.name for path in (self.store / name).glob("*"))

    def own(self, name: str) -> list[str]:
        return self.files(f".longtake/{JOB}/{name}")


supervisor = supervisor_fixture({"LONGTAKE_JOB": JOB})


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take no command for a long one where the machine is busy."""
    monkeypatch.setattr(chunk_bursts, "LONGEST_SECONDS", 30.0)
    monkeypatch.setattr(chunk_bursts, "_BURST_SECONDS", 30.0)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of chunks that were planned together."""
    counts: list[int] = []
    plan = ChunkBursts._plan

    def count(self: ChunkBursts, indices: list[int]) -> object:
        planned = plan(self, indices)
        counts.append(len(planned))
        return planned

    monkeypatch.setattr(ChunkBursts, "_plan", count)
    return counts


async def test_chunks_in_bursts_have_the_records_of_those_that_are_rendered_alone(
    supervisor: Supervisor, tmp_path: Path, sent: list[int]
) -> None:
    scenes = []
    for name in ("bursts", "alone"):
        (tmp_path / name).mkdir()
        scene = Scene(tmp_path / name, supervisor)
        # A worker was lost before: then each is rendered alone.
        span = scene.span(None if name == "bursts" else Heartbeat(chunk=0, losses=1))
        await scene.render(span)
        assert span.progress.report().done == ((0, CHUNKS),)
        assert span.progress.report().rendered == CHUNKS
        assert scene.begun == list(range(CHUNKS))
        scenes.append(scene)
    bursts, alone = scenes

    assert sum(sent) == CHUNKS
    # The first four, then as many as fit.
    assert sent[0] == 4
    assert max(sent) > 4
    for chunk, record in bursts.records().items():
        assert (bursts.store / f"out/{chunk:06}.txt").read_text() == f"{chunk}\n"
        assert record.render_seconds >= 0.001
        assert record.peak_memory_bytes > 0
        told = [neutral(scene, scene.records()[chunk]) for scene in scenes]
        assert told[0] == told[1]
    for scene in scenes:
        assert scene.own("attempts") == scene.own("logs") == []
        assert len(scene.own("segments")) == 1
    assert alone.files("out") == bursts.files("out")


def neutral(scene: Scene, record: Sidecar) -> object:
    """Return all of a record that two renders of a chunk in two folders have in common."""
    differing = {"render_seconds", "cpu_seconds", "peak_memory_bytes", "published_at", "digest", "chunk_digest"}
    assert record.chunk_digest == scene.opened.compute_digest(record.key)
    said = record.model_dump(exclude=differing)
    for file in said["files"]:
        assert file.pop("modified_ns") > 0
    return str(said).replace(str(scene.store), "").replace(record.attempt, "NAME")


async def test_a_burst_holds_what_takes_no_time_and_long_chunks_are_begun_one_by_one(
    supervisor: Supervisor, tmp_path: Path, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk_bursts, "LONGEST_SECONDS", 0.01)
    scene = Scene(tmp_path, supervisor, command=("sh", "-c", 'sleep 0.05; echo x > "$0"', "{output}"))
    await scene.render(span := scene.span())

    assert span.progress.report().done == ((0, CHUNKS),)
    assert len(sent) <= 6, "seldom tried again"


@pytest.mark.parametrize(
    ("limits", "longest"),
    [({}, 2.0), ({"chunk_seconds": 5}, 0.5), ({"stall_seconds": 1}, 0.1), ({"linger_seconds": 2}, 0.2)],
    ids=["as usual", "of a chunk", "of silence", "of lingering"],
)
async def test_a_command_is_watched_long_before_its_limits(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, float], longest: float
) -> None:
    monkeypatch.undo()
    seconds: list[float] = []
    open_burst = LocalBackend.open_burst

    def note(*args: Any, longest_seconds: float, **fields: Any) -> object:
        seconds.append(longest_seconds)
        return open_burst(*args, longest_seconds=longest_seconds, **fields)

    monkeypatch.setattr(LocalBackend, "open_burst", note)
    scene = Scene(tmp_path, supervisor, timeouts=limits)
    await scene.render(scene.span())

    assert {round(each, 6) for each in seconds} == {longest}


@pytest.mark.parametrize(
    ("unusual", "told"),
    [
        ("echo no >&2; exit 3", "sh exited with code 3"),
        ("kill -9 $$", "sh was ended by a SIGKILL"),
        ('ln -s /dev/null "$0"', "leads by a symbolic link"),
        ('mkdir "$0"', "is a folder"),
        ('mkfifo "$0"', "is a pipe"),
        (': > "$0"', "is empty: the renderer ended well"),
        ("exit 0", "is missing: the renderer ended well and wrote nothing"),
        ('rm -r "${{0%/*}}"; exit 0', "is missing"),
    ],
    ids=["fails", "is killed", "link", "folder", "pipe", "empty", "missing", "no folder"],
)
async def test_a_chunk_that_fails_in_a_burst_fails_as_alone_and_those_before_it_count(
    supervisor: Supervisor, tmp_path: Path, sent: list[int], unusual: str, told: str
) -> None:
    scene = Scene(tmp_path, supervisor, unusual)
    await scene.render(span := scene.span())
    # Those after it that were begun by then count as well.
    assert set(scene.records()) >= set(range(9))
    assert 9 not in scene.records()
    assert scene.begun.count(9) == 1
    (failure,) = span.progress.report().failures
    assert told in failure.error
    assert failure.chunk == 9
    assert scene.own("attempts") == []


@pytest.mark.parametrize(
    ("unusual", "log"),
    [
        ("echo loud", "loud\n"),
        ("sleep 0.2", ""),
        ("sleep 0.2; echo late", "late\n"),
        ('echo x > "${{0%/*}}/more.dat"', "longtake: the renderer made files besides its outputs: more.dat"),
        ('echo y > real.tmp; mv real.tmp "$0"', ""),
        ("sleep 300 & :", ""),
    ],
    ids=["prints", "takes long", "both", "another file", "moved there", "leaves a child"],
)
async def test_a_chunk_that_is_unusual_and_sound_is_rendered_once_and_published(
    supervisor: Supervisor, tmp_path: Path, unusual: str, log: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk_bursts, "LONGEST_SECONDS", 0.1)
    scene = Scene(tmp_path, supervisor, unusual)
    await scene.render(span := scene.span())

    assert span.progress.report().done == ((0, CHUNKS),)
    assert scene.begun == list(range(CHUNKS))
    assert scene.own("attempts") == []
    logs = [path.read_text() for path in (scene.store / f".longtake/{JOB}/logs").glob("000009*")]
    assert "".join(logs).startswith(log)
    kept = scene.opened.folder.store.names(scene.opened.folder.others_dir)
    assert bool(kept) == ("more" in unusual)


async def test_a_file_that_is_a_link_of_the_folder_itself_is_not_followed(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    away = tmp_path / "elsewhere"
    scene = Scene(tmp_path, supervisor, f'mv "${{{{0%/*}}}}" {away}/x; ln -s {away}/x "${{{{0%/*}}}}"')
    await scene.render(span := scene.span())

    (failure,) = span.progress.report().failures
    assert "leads by a symbolic link" in failure.error


async def test_a_try_that_fails_in_a_burst_is_followed_by_another_one(supervisor: Supervisor, tmp_path: Path) -> None:
    unusual = "if [ ! -e tried ]; then : > tried; exit 1; fi"
    scene = Scene(tmp_path, supervisor, unusual, retry={"attempts": 2})
    first = scene.span()
    with pytest.raises(RetryError, match="chunk 9"):
        await scene.render(first)
    assert first.progress.heartbeat.chunk == 9
    assert first.progress.heartbeat.failures == 1
    done = set(scene.records())

    await scene.render(second := scene.span(first.progress.heartbeat))

    assert set(scene.records()) == set(range(CHUNKS))
    assert second.progress.report().done == ((0, CHUNKS),)
    assert all(scene.begun.count(chunk) == 1 for chunk in done)


@pytest.mark.parametrize(
    "order",
    [JobOrders(Control.DRAIN), JobOrders(Control.FREEZE), JobOrders(Control.STOP), JobOrders(split=1)],
    ids=["drain", "freeze", "stop", "split"],
)
async def test_an_order_takes_back_what_has_not_begun(supervisor: Supervisor, tmp_path: Path, order: JobOrders) -> None:
    scene = Scene(
        tmp_path, supervisor, "sleep 0.03", command=("sh", "-c", 'echo >> begun; sleep 0.02; echo > "$0"', "{output}")
    )
    begun = scene.store / "begun"

    def orders() -> JobOrders:
        return order if begun.exists() and len(begun.read_text()) >= 7 else JobOrders()

    await scene.render(span := scene.span(), orders)

    count = len(begun.read_text())
    assert 7 <= count < CHUNKS
    assert span.progress.report().done == ((0, count),), "what had begun is finished, and nothing else has begun"
    assert scene.own("attempts") == []


async def test_a_command_of_a_burst_freezes_where_it_stands_and_goes_on(supervisor: Supervisor, tmp_path: Path) -> None:
    script = (
        'if [ {chunk} = 5 ]; then echo $$ > pid.new; mv pid.new pid; while [ ! -e go ]; do :; done; fi; echo x > "$0"'
    )
    scene = Scene(tmp_path, supervisor, command=("sh", "-c", script, "{output}"))
    pid = scene.store / "pid"
    order = JobOrders()
    rendering = asyncio.create_task(scene.render(span := scene.span(), lambda: order))
    await eventually(pid.exists, "the sixth command")
    await eventually(lambda: span.progress.heartbeat.chunk == 5, "the heartbeat tells of it")
    assert span.progress.heartbeat.frames == 1
    order = JobOrders(Control.FREEZE, freeze=3)
    await eventually(lambda: span.progress.heartbeat.frozen == 3, "the freeze")
    assert state_of(int(pid.read_text())) == "T"
    (scene.store / "go").touch()
    order = JobOrders()
    await asyncio.wait_for(rendering, 60)

    assert span.progress.report().done == ((0, CHUNKS),)


async def test_a_cancel_in_a_burst_leaves_no_process_and_no_folder(supervisor: Supervisor, tmp_path: Path) -> None:
    scene = Scene(tmp_path, supervisor, "sleep 300")
    rendering = asyncio.create_task(scene.render(span := scene.span()))
    await eventually(lambda: 9 in scene.begun, "the endless command")
    rendering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rendering

    assert survivors({"LONGTAKE_JOB": JOB}) == []
    assert scene.begun == list(range(10))
    assert set(scene.records()) == {
        chunk for start, stop in span.progress.report().done for chunk in range(start, stop)
    }
    assert scene.own("attempts") == []


async def test_chunks_that_others_have_published_are_left_out(supervisor: Supervisor, tmp_path: Path) -> None:
    scene = Scene(tmp_path, supervisor)
    await scene.render(scene.span())
    (scene.store / "begun").unlink()

    await scene.render(span := scene.span())

    assert span.progress.report().done == ((0, CHUNKS),)
    assert scene.begun == []


@pytest.mark.parametrize(
    "fields",
    [
        {"check": ("true",)},
        {"also": ("*.dat",)},
        {"chunk_output": "out/f_{frame:06}.png"},
        {"chunk_output": "out/{chunk:06}.png"},
        {"retry": {"attempts": 1, "rules": ({"pattern": "lost"},)}},
    ],
    ids=["own check", "also", "frames", "pictures", "rules"],
)
async def test_what_needs_more_than_one_file_is_not_rendered_in_bursts(
    supervisor: Supervisor, tmp_path: Path, fields: dict[str, Any], sent: list[int]
) -> None:
    scene = Scene(tmp_path, supervisor, **fields)
    await scene.render(scene.span())

    assert sum(sent) == 0


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The places that were made, and not used again."""
    places: list[str] = []
    make = BurstFolders._make_anew

    def note(self: BurstFolders, place: BurstPlace) -> None:
        make(self, place)
        places.append(place.folders[0])

    monkeypatch.setattr(BurstFolders, "_make_anew", note)
    return places


# Names and permissions in and of both folders of a place.
SHOW_PLACE = (
    'inner="${{0%/*}}"; outer="${{inner%/*}}"; seen=$(ls -a "$inner" "$outer" | wc -l); echo $seen > "$0"; '
    'stat -c %a "$inner" "$outer" >> "$0"; sleep 0.02'
)


async def test_a_place_that_is_used_again_is_like_a_new_one(
    supervisor: Supervisor, tmp_path: Path, fresh: list[str]
) -> None:
    changes = 'case {chunk} in 3) chmod 777 "$inner";; 5) mkdir "$inner/.hidden";; esac'
    scene = Scene(tmp_path, supervisor, command=("sh", "-c", f"{SHOW_PLACE}; {changes}", "{output}"))
    await scene.render(span := scene.span())

    assert span.progress.report().done == ((0, CHUNKS),)
    assert len(fresh) < CHUNKS - 2, "some are used again"
    assert len({(scene.store / "out" / name).read_text() for name in scene.files("out")}) == 1
    assert scene.own("attempts") == []


async def test_places_that_a_killed_worker_would_have_used_again_are_removed(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    scene = Scene(tmp_path, supervisor)
    await scene.render(scene.span())
    (scene.store / f".longtake/{JOB}/attempts/000005/a/out").mkdir(parents=True)

    await scene.render(scene.span(published=((0, CHUNKS - 2),)))

    assert scene.own("attempts") == []
