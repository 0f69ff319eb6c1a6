"""What crosses the wire: frozen, lenient to newer peers, readable to the end, and cheap to import."""

import json
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from activities.remote import protocol
from activities.stores.job_folder import encode_job
from longtake.chunks import ChunkPlan
from longtake.errors import BadJobError
from longtake.jobfile.loader import read_job
from longtake.models import (
    backends,
    films,
    frames,
    inputs,
    job,
    job_fields,
    messages,
    notify,
    outputs,
    policies,
    status,
)
from longtake.models.fields import Contract
from longtake.models.frames import ChunkList, ChunkSpec, FrameRange
from longtake.models.job import RenderJobSpec
from longtake.models.job_fields import IfExists, JobFields
from longtake.models.policies import FailurePolicy, Retry, Timeouts
from longtake.sound_formats import StreamKind

FILM = RenderJobSpec(
    frames=FrameRange(first=0, count=600, per_chunk=50),
    fps="30000/1001",
    command=("render", "{start}", "{output}"),
    chunk_output="chunks/{chunk:06}.mp4",
    output="film.mp4",
    audio="score.wav",
    env={"A": "1"},
    base_dir="/farm",
)


def models() -> list[type[BaseModel]]:
    """All models of the modules that hold messages."""
    found = [
        value
        for module in (
            backends,
            films,
            frames,
            inputs,
            job,
            job_fields,
            notify,
            outputs,
            policies,
            protocol,
            status,
            messages,
        )
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, BaseModel)
        and value not in (Contract, JobFields, job.CheckedJob)
    ]
    return sorted(set(found), key=lambda model: model.__name__)


# Fields without a default. A new one would make the messages of older peers unreadable: give it a default instead.
REQUIRED = {
    "AudioTrack": {"file"},
    "Colour": {"input", "output"},
    "CloudRunBackend": set(),
    "FarmOrder": {"job", "run", "control"},
    "FilmItem": set(),
    "FilmResult": {"output", "sha256"},
    "FilmSpec": set(),
    "OutputSpec": {"path"},
    "InputBundle": {"sha256", "files", "size_bytes"},
    "InputFile": {"path", "sha256", "size_bytes"},
    "InputManifest": {"files"},
    "LambdaBackend": set(),
    "RemoteCall": {"attempt", "where", "called_at", "ends_at"},
    "RemoteOrder": {"ref", "chunk", "attempt", "seconds", "issued_at"},
    "RemoteProgress": {"beat"},
    "RemoteResult": {"attempt", "outcome"},
    "RemoteStop": {"chunk"},
    "RemoteStops": set(),
    "SignedOrder": {"order"},
    "StopAgentsOrder": {"ref", "chunks"},
    "StopAgentsReport": set(),
    "_Remote": set(),
    "ChunkBill": {"chunk"},
    "ChunkFailure": {"chunk"},
    "ChunkList": {"path", "sha256", "count"},
    "ChunkSpec": {"start", "count"},
    "DeliveryOrder": {"notification"},
    "DeliveryReport": set(),
    "DrainOrder": {"ref"},
    "DrainReport": set(),
    "FailureRule": set(),
    "FarmReceivers": set(),
    "FrameRange": {"count"},
    "Rerender": {"frames", "id"},
    "Heartbeat": {"chunk"},
    "JobMetrics": set(),
    "JobPlan": {"ref", "chunk_count", "frame_count"},
    "JobRef": {"id", "base_dir", "digest"},
    "JobStatus": {"id"},
    "Notification": {"id", "event", "at", "status"},
    "NotifyOrder": {"notification"},
    "NotifyReport": set(),
    "PauseRequest": set(),
    "PictureSpec": set(),
    "PlanOrder": {"id", "job"},
    "ProgressSpec": set(),
    "Receiver": set(),
    "RenderJobResult": set(),
    "ReportOrder": {"ref", "status"},
    "ReportPlace": {"location"},
    "JobRequest": set(),
    "RequestRecord": {"what", "at"},
    "ResumeRequest": set(),
    "RenderJobSpec": set(),
    "Retry": set(),
    "RunningChunk": {"chunk"},
    "RetryFailed": set(),
    "SetMaxParallel": {"max_parallel"},
    "SignalledRequest": set(),
    "SkipChunks": {"chunks"},
    "SpanOrder": {"ref", "start", "stop"},
    "SpanReport": set(),
    "StitchOrder": {"ref"},
    "Timeouts": set(),
    "TrialOrder": {"ref", "chunk"},
    "TrialReport": set(),
    "WaitingAttempt": {"activity_id"},
}

REF: dict[str, object] = {"id": "film-1", "base_dir": "/farm", "digest": "0" * 64}
NOTIFICATION: dict[str, object] = {
    "id": "msg_1", "event": "finished", "at": "2026-11-29T10:00:00Z", "status": {"id": "film-1", "state": "completed"},
}  # fmt: skip
FIRST_JOB = {
    "contract": 1,
    "frames": {"count": 10, "per_chunk": 5},
    "command": ["render", "{output}"],
    "chunk_output": "c/{chunk}.bin",
}

# Messages as the first version of Longtake that had them wrote them, the least of each kind.
FIRST_MESSAGES: dict[str, dict[str, object]] = {
    "AudioTrack": {"file": "mix.wav"},
    "Colour": {"input": "linear", "output": "Rec.709"},
    "CloudRunBackend": {"type": "cloud_run", "url": "https://render.example", "vcpus": 2},
    "FarmOrder": {"job": "film-1", "run": "7c9e6679", "control": "freeze"},
    "FilmItem": {"from": "depth", "output": "depth.mov", "encode": ["-c:v", "prores_ks"]},
    "FilmResult": {"output": "/farm/film.mp4", "sha256": "a" * 64},
    "FilmSpec": {"from": "beauty"},
    "OutputSpec": {"path": "beauty/{frame:04}.exr", "name": "beauty"},
    "InputBundle": {"sha256": "a" * 64, "files": 2, "size_bytes": 3},
    "InputFile": {"path": "scene.blend", "sha256": "a" * 64, "size_bytes": 3},
    "InputManifest": {"files": [{"path": "scene.blend", "sha256": "a" * 64, "size_bytes": 3}]},
    "LambdaBackend": {"type": "lambda", "function": "render", "region": "eu-central-1"},
    "RemoteCall": {
        "attempt": "a-1",
        "where": "lambda render",
        "called_at": "2026-11-23T10:00:00Z",
        "ends_at": "2026-11-23T10:15:00Z",
    },
    "RemoteOrder": {
        "ref": {"id": "film", "base_dir": "/farm", "digest": "d"},
        "chunk": 3,
        "attempt": "a-1",
        "seconds": 870,
        "issued_at": 1e9,
    },
    "RemoteProgress": {"beat": 4, "frames_done": 7},
    "RemoteResult": {"attempt": "a-1", "outcome": "published", "billed_seconds": 12.5},
    "RemoteStop": {"chunk": 3, "where": "lambda render", "confirmed": True, "seconds": 1.2},
    "RemoteStops": {"confirmed": 1, "slowest_seconds": 1.2},
    "SignedOrder": {"order": "{}", "signature": "00"},
    "StopAgentsOrder": {"ref": {"id": "film", "base_dir": "/farm", "digest": "d"}, "chunks": [[3, 5]]},
    "StopAgentsReport": {"stops": [{"chunk": 3, "confirmed": True, "seconds": 1.2}]},
    "_Remote": {"protocol": "helios", "job_url": "https://example.com/job.json"},
    "ChunkBill": {"chunk": 3, "seconds": 1.5, "usd": 0.00005},
    "ChunkFailure": {"chunk": 3, "start": 30, "stop": 40, "attempts": 4, "error": "exit code 1"},
    "ChunkList": {"path": "list.json", "sha256": "0" * 64, "count": 9},
    "ChunkSpec": {"start": 0, "count": 10},
    "DeliveryOrder": {"notification": NOTIFICATION, "receiver": {"webhook": "https://example.com/hook"}},
    "DeliveryReport": {"receiver": "webhook https://example.com:443"},
    "DrainOrder": {"ref": REF},
    "DrainReport": {"waiting": [{"activity_id": "chunk-3.7", "failures": 1}]},
    "FailureRule": {"exit_codes": [3]},
    "FarmReceivers": {"digests": ["0123456789abcdef"]},
    "FrameRange": {"count": 10},
    "Rerender": {"frames": "12-15", "id": "7"},
    "Heartbeat": {"chunk": 3, "frames": 10, "frames_done": 4, "given_up": [[1, 2]]},
    "JobMetrics": {"render_seconds": 1.5},
    "JobPlan": {"ref": REF, "chunk_count": 2, "frame_count": 10, "done": [[0, 1]]},
    "JobRef": REF,
    "JobStatus": {
        "id": "film-1", "state": "running", "phase": "rendering",
        "created_at": "2025-01-01T00:00:00Z", "updated_at": "2025-01-01T00:00:01Z",
    },
    "Notification": NOTIFICATION,
    "NotifyOrder": {"notification": NOTIFICATION, "receivers": [{"email": ["ada@example.com"]}]},
    "NotifyReport": {"deliveries": [{"receiver": "email ada@example.com"}]},
    "PauseRequest": {},
    "PictureSpec": {"size": 480},
    "PlanOrder": {"id": "film-1", "job": FIRST_JOB},
    "ProgressSpec": {"format": "ffmpeg"},
    "Receiver": {"webhook": "https://example.com/hook"},
    "RenderJobResult": {"output": "/farm/film.mp4", "sha256": "0" * 64, "frames": 10, "duration_seconds": 0.4},
    "RenderJobSpec": FIRST_JOB,
    "ReportOrder": {"ref": REF, "status": {"id": "film-1"}},
    "ReportPlace": {"location": "/farm/.longtake/film-1/report.html"},
    "JobRequest": {"by": "ada@tower"},
    "RequestRecord": {"what": "pause", "at": "2026-11-29T10:00:00Z"},
    "ResumeRequest": {},
    "Retry": {"attempts": 2},
    "RunningChunk": {"chunk": 3},
    "RetryFailed": {"chunks": [[0, 2]]},
    "SetMaxParallel": {"max_parallel": 4},
    "SignalledRequest": {"update_id": "9f0c"},
    "SkipChunks": {"chunks": [[3, 4]]},
    "SpanOrder": {"ref": REF, "start": 0, "stop": 3},
    "SpanReport": {"done": [[0, 2]], "failed": [[2, 3]], "rendered": 2, "render_seconds": 3.5},
    "StitchOrder": {"ref": REF},
    "Timeouts": {"chunk_seconds": 60},
    "TrialOrder": {"ref": REF, "chunk": 3},
    "TrialReport": {},
    "WaitingAttempt": {"activity_id": "chunk-3.7"},
}  # fmt: skip


@pytest.mark.parametrize("model", models(), ids=lambda model: model.__name__)
def test_a_message_is_a_frozen_contract(model: type[BaseModel]) -> None:
    assert issubclass(model, Contract)
    assert model.model_config.get("frozen") is True
    assert model.model_config.get("extra") == "ignore"
    message = model.model_validate(FIRST_MESSAGES[model.__name__])
    for field in model.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(message, field, None)


@pytest.mark.parametrize("model", models(), ids=lambda model: model.__name__)
def test_a_new_field_has_a_default(model: type[BaseModel]) -> None:
    required = {name for name, field in model.model_fields.items() if field.is_required()}

    assert required == REQUIRED[model.__name__]


@pytest.mark.parametrize("model", models(), ids=lambda model: model.__name__)
def test_a_message_of_the_first_version_is_read(model: type[BaseModel]) -> None:
    first = FIRST_MESSAGES[model.__name__]
    read = model.model_validate_json(json.dumps(first))

    keys = {field.alias or name for name, field in model.model_fields.items() if name in read.model_fields_set}
    assert set(first) - {"contract"} <= keys
    assert model.model_validate_json(read.model_dump_json()) == read


@pytest.mark.parametrize("model", models(), ids=lambda model: model.__name__)
def test_a_message_of_a_newer_version_is_read(model: type[BaseModel]) -> None:
    first = FIRST_MESSAGES[model.__name__]
    newer = {**first, "added_later": {"by": "a newer peer"}}

    assert model.model_validate_json(json.dumps(newer)) == model.model_validate_json(json.dumps(first))


def test_every_message_has_a_first_version() -> None:
    names = {model.__name__ for model in models()}

    assert names == set(FIRST_MESSAGES) == set(REQUIRED)


def test_unknown_keys_are_refused_from_people_and_passed_over_from_clients() -> None:
    document = {**FIRST_JOB, "added_later": 1}

    assert read_job(document) == read_job(FIRST_JOB)
    with pytest.raises(BadJobError, match="added_later: is not a key of a job"):
        read_job({key: value for key, value in document.items() if key != "contract"})


retries = st.builds(
    Retry,
    attempts=st.integers(1, 1000),
    initial_seconds=st.floats(0, 86_400),
    backoff=st.floats(1, 100),
    max_seconds=st.floats(0, 86_400),
    job_attempts=st.integers(1, 100),
    fatal_exit_codes=st.lists(st.integers(0, 255), max_size=5).map(tuple),
    fatal_patterns=st.lists(st.sampled_from(["out of memory", r"^\s+$", "a|b"]), max_size=3).map(tuple),
)
timeouts = st.builds(
    Timeouts,
    chunk_seconds=st.floats(0.1, 1e6),
    stall_seconds=st.floats(0.1, 1e6),
    grace_seconds=st.floats(0, 3600),
)
works = st.one_of(
    st.fixed_dictionaries({"frames": st.builds(FrameRange, count=st.integers(1, 1000), per_chunk=st.integers(1, 99))}),
    st.fixed_dictionaries(
        {
            "chunks": st.lists(
                st.builds(
                    ChunkSpec,
                    start=st.integers(0, 1000),
                    count=st.integers(1, 1000),
                    command=st.none() | st.just(("own", "{output}")),
                ),
                min_size=1,
                max_size=5,
            ).map(tuple)
        }
    ),
    st.just({"chunks": ChunkList(path="/farm/list.json", sha256="a" * 64, count=4000)}),
)
jobs = st.builds(
    lambda work, **others: RenderJobSpec(
        **work, fps="25", chunk_output="c/{chunk}.mp4", command=("render", "{output}"), **others
    ),
    works,
    name=st.text(min_size=1, max_size=100).filter(lambda name: bool(name.strip()) and name.isprintable()),
    max_parallel=st.integers(1, 500),
    retry=retries,
    timeouts=timeouts,
    on_chunk_failure=st.sampled_from(FailurePolicy),
    if_exists=st.sampled_from(IfExists),
    allow_gaps=st.booleans(),
    output=st.none() | st.just("film.mp4"),
    env=st.dictionaries(
        st.from_regex(r"[A-Z_][A-Z0-9_]{0,9}", fullmatch=True), st.text().filter(lambda t: "\0" not in t)
    ),
    base_dir=st.none() | st.just("/farm"),
)


@given(jobs)
def test_a_job_crosses_the_wire_unchanged(spec: RenderJobSpec) -> None:
    crossed = read_job(json.loads(json.dumps(spec.to_wire())))

    assert crossed == spec
    assert crossed.digest() == spec.digest()
    assert crossed.to_wire() == spec.to_wire()


@given(jobs)
def test_a_job_is_read_from_activity_inputs_unchanged(spec: RenderJobSpec) -> None:
    assert RenderJobSpec.model_validate_json(spec.model_dump_json()) == spec


def test_the_wire_says_which_contract_it_is_and_no_defaults() -> None:
    assert read_job(FIRST_JOB).to_wire() == FIRST_JOB


@pytest.mark.parametrize(
    "change",
    [
        {"name": "another"},
        {"max_parallel": 1},
        {"retry": Retry(attempts=9)},
        {"timeouts": Timeouts(chunk_seconds=9)},
        {"on_chunk_failure": FailurePolicy.CONTINUE},
        {"allow_gaps": True},
        {"if_exists": IfExists.REUSE},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_does_not_decide_the_outputs_leaves_the_digest(change: dict[str, object]) -> None:
    assert FILM.model_copy(update=change).digest() == FILM.digest()


@pytest.mark.parametrize(
    "change",
    [
        {"frames": FrameRange(first=1, count=600, per_chunk=50)},
        {"frames": FrameRange(count=600, per_chunk=51)},
        {"fps": "30"},
        {"command": ("render", "{start}", "{output}", "-x")},
        {"chunk_output": "c/{chunk:06}.mp4"},
        {"output": "other.mp4"},
        {"audio": None},
        {"check": ("true",)},
        {"encode": ("-crf", "18")},
        {"merge_command": ("cat", "{output}")},
        {"env": {"A": "2"}},
        {"base_dir": "/other"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_decides_the_outputs_changes_the_digest(change: dict[str, object]) -> None:
    assert FILM.model_copy(update=change).digest() != FILM.digest()


def test_the_digest_of_a_job_is_the_same_for_ever() -> None:
    # Written into stores and memos: another digest would make every job that runs now a stranger to its own files.
    assert FILM.digest() == "0513d03e7f85b080f5b2dc42cf5c864dd7f2c27fb529391cfdd51b3603d3b017"


def digest_of_chunk(job: RenderJobSpec, chunk: int = 0) -> str:
    return ChunkPlan(job).compute_digest(chunk)


def test_the_digest_of_a_chunk_is_the_same_for_ever() -> None:
    # Written into sidecars: with another one no job could take over what jobs before it have rendered.
    assert digest_of_chunk(FILM) == "a83899f3dc2ad1fbcbaced97e53da4bb4c4db7e640e6078bacb307d5a3dfa7c2"


@pytest.mark.parametrize(
    "change",
    [
        {"output": "other.mp4"},
        {"output": None},
        {"audio": None},
        {"encode": ("-crf", "18")},
        {"merge_command": ("cat", "{output}")},
        {"drop": (StreamKind.AUDIO,)},
        {"frames": FrameRange(count=650, per_chunk=50)},
    ],
    ids=["output", "no output", "audio", "encode", "merge_command", "drop", "more frames"],
)
def test_another_film_and_more_frames_leave_the_digests_of_chunks(change: dict[str, object]) -> None:
    assert FILM.model_copy(update=change).digest() != FILM.digest()
    assert digest_of_chunk(FILM.model_copy(update=change)) == digest_of_chunk(FILM)


@pytest.mark.parametrize(
    "change",
    [
        {"frames": FrameRange(first=1, count=600, per_chunk=50)},
        {"frames": FrameRange(count=600, per_chunk=51)},
        {"fps": "30"},
        {"command": ("render", "{start}", "{output}", "-x")},
        {"chunk_output": "c/{chunk:06}.mp4"},
        {"check": ("true",)},
        {"env": {"A": "2"}},
        {"base_dir": "/other"},
        {"inputs": ("scene.blend",)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_decides_a_chunk_changes_its_digest(change: dict[str, object]) -> None:
    assert digest_of_chunk(FILM.model_copy(update=change)) != digest_of_chunk(FILM)


def test_chunks_of_one_job_have_different_digests_and_images_have_no_rate() -> None:
    assert digest_of_chunk(FILM, 0) != digest_of_chunk(FILM, 1)
    images = FILM.model_copy(update={"chunk_output": "f/f_{frame:04}.png"})
    assert digest_of_chunk(images) == digest_of_chunk(images.model_copy(update={"fps": "12"}))


def test_a_delay_grows_to_its_bound_and_never_overflows() -> None:
    retry = Retry(attempts=1000, initial_seconds=1, backoff=100, max_seconds=60)

    assert [retry.delay_seconds(failures) for failures in (0, 1, 2, 999)] == [0, 1, 60, 60]
    assert Retry(initial_seconds=0).delay_seconds(5) == 0


def test_a_service_that_calls_longtake_loads_nothing_of_workers_and_tools() -> None:
    foreign = ("boto3", "httpx", "av", "yaml", "typer", "rich", "psutil", "imageio_ffmpeg", "activities", "workflows")
    script = f"import sys, longtake; print([name for name in {foreign} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)

    assert ended.stdout.strip() == "[]"


UNKNOWN_KEYS: dict[str, tuple[Callable[[], object], str, str]] = {
    "a field of a job": (lambda: RenderJobSpec(maxparallel=1), "maxparallel: ", "did you mean max_parallel?"),
    "a field inside": (lambda: Retry(attemps=3), "attemps: ", "did you mean attempts?"),
    "a message": (lambda: status.JobStatus(id="a", progess=1), "progess: ", "did you mean progress?"),
    "a body": (lambda: RenderJobSpec.model_validate({"maxparallel": 1}), "maxparallel: ", "did you mean max_parallel?"),
    "inside a body": (lambda: RenderJobSpec.model_validate({"retry": {"attemps": 1}}), "retry.attemps: ", "attempts?"),
    "in a list of a body": (
        lambda: TypeAdapter(RenderJobSpec).validate_json('{"chunks": [{"strat": 1}]}'), "chunks[0].strat: ", "start?"
    ),
    "in a tuple of dicts": (lambda: RenderJobSpec(chunks=({"strat": 1},)), "chunks[0].strat: ", "start?"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN_KEYS)
def test_an_unknown_key_in_python_is_refused_with_the_nearest_one(name: str) -> None:
    make, key, hint = UNKNOWN_KEYS[name]
    with pytest.raises(ValueError, match=re.escape(key)) as refused:
        make()

    assert hint in str(refused.value)


def test_an_unknown_key_of_the_constructor_is_one_sentence_of_ours() -> None:
    with pytest.raises(BadJobError) as refused:
        RenderJobSpec(maxparallel=1)

    assert str(refused.value) == "maxparallel: is not a field of RenderJobSpec; did you mean max_parallel?"


def test_fields_of_a_newer_peer_are_passed_over_wherever_longtake_wrote_them() -> None:
    wire = FILM.to_wire() | {"newer": 1, "retry": {"attempts": 2, "newer": 1}}

    assert read_job(wire).retry.attempts == 2
    assert RenderJobSpec.model_validate(wire).retry.attempts == 2
    assert RenderJobSpec.model_validate_json(json.dumps(wire)).retry.attempts == 2
    order = messages.PlanOrder(id="film-1", job=FILM).model_dump(mode="json")
    order["job"]["newer"] = order["newer"] = 1
    assert messages.PlanOrder.model_validate(order).job == FILM
    record = json.loads(encode_job(FILM)) | {"newer": 1}
    assert RenderJobSpec.from_json(json.dumps(record).encode()) == FILM
