"""What agents are told by their environment, and the small decisions that rest on it."""

import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from activities.errors import AttemptError, AttemptLostError
from activities.remote.protocol import RemoteOutcome, RemoteResult
from agent.agent import count_tagged, memory_mb
from agent.helios import MOST_BYTES, decode_tail, request_in
from agent.render_call import AgentResult, TimeUsed, chunk_too_large
from agent.settings import AgentSettings, is_url_below
from longtake import BadJobError, ChunkSpec, FrameRange, RenderJobSpec
from longtake.chunks import Chunk, ChunkPlan
from longtake.errors import LongtakeError

GOOD = {
    "LONGTAKE_STORES": "s3://films/shows /mnt/films",
    "LONGTAKE_ALLOWED_COMMANDS": "ffmpeg:blender",
    "LONGTAKE_REMOTE_SECRET": "a secret",
}


def test_a_complete_environment_is_read() -> None:
    environ = {
        **GOOD,
        "LONGTAKE_MARGIN_SECONDS": "20",
        "LONGTAKE_HELIOS_JOBS": "https://a.example/jobs/ http://b.example",
        "LONGTAKE_PASS_ENV": "LICENSE::PLUGINS ",
    }
    settings = AgentSettings.from_environ(environ)

    assert settings.buckets == ("s3://films/shows",)
    assert settings.folders == (Path("/mnt/films"),)
    assert settings.allowed_commands == ("ffmpeg", "blender")
    assert settings.remote_secret == SecretStr("a secret")
    assert settings.margin_seconds == 20
    assert settings.helios_jobs == ("https://a.example/jobs/", "http://b.example")
    assert settings.pass_env == ("LICENSE", "PLUGINS")
    assert (settings.deadline_seconds, settings.orphan_seconds) == (3600, 30)
    assert "a secret" not in repr(settings)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"LONGTAKE_STORES": ""}, "LONGTAKE_STORES is not set"),
        ({"LONGTAKE_STORES": "films"}, "LONGTAKE_STORES names 'films'"),
        ({"LONGTAKE_ALLOWED_COMMANDS": " : "}, "LONGTAKE_ALLOWED_COMMANDS is not set"),
        ({"LONGTAKE_REMOTE_SECRET": " "}, "LONGTAKE_REMOTE_SECRET is not set"),
        ({"LONGTAKE_REMOTE_AUTH": "none"}, "LONGTAKE_REMOTE_AUTH is 'none'; choose "),
        ({"LONGTAKE_MARGIN_SECONDS": "soon"}, "LONGTAKE_MARGIN_SECONDS is 'soon'; "),
        ({"LONGTAKE_DEADLINE_SECONDS": "0"}, "LONGTAKE_DEADLINE_SECONDS is '0'; make it more than 0"),
        ({"LONGTAKE_HELIOS_JOBS": "ftp://host/"}, "LONGTAKE_HELIOS_JOBS[0] is no plain URL; "),
        ({"LONGTAKE_HELIOS_JOBS": "https://user:password@host/"}, "LONGTAKE_HELIOS_JOBS"),
    ],
)
def test_what_does_not_do_is_told_in_one_sentence_that_names_the_variable(environ: dict[str, str], said: str) -> None:
    with pytest.raises(LongtakeError) as caught:
        AgentSettings.from_environ({**GOOD, **environ})

    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)
    assert "a secret" not in str(caught.value)


@pytest.mark.parametrize("environ", [{"LONGTAKE_REMOTE_AUTH": "iam"}, {"LONGTAKE_REMOTE_SECRET_ARN": "arn:x"}])
def test_the_secret_may_be_elsewhere_or_none(environ: dict[str, str]) -> None:
    assert AgentSettings.from_environ({**GOOD, "LONGTAKE_REMOTE_SECRET": "", **environ})


def test_an_agent_is_called_what_its_platform_calls_it() -> None:
    assert AgentSettings.from_environ({**GOOD, "AWS_LAMBDA_FUNCTION_NAME": "render"}).host == "lambda render"
    assert AgentSettings.from_environ({**GOOD, "K_SERVICE": "render"}).host == "cloud run render"
    assert AgentSettings.from_environ({**GOOD, "K_SERVICE": "render", "LONGTAKE_HOST": "mine"}).host == "mine"


@pytest.mark.parametrize(
    ("url", "passes"),
    [
        ("https://a.example/jobs/one/job.json", True),
        ("https://a.example:443/jobs/one.json?token=x%2Fy", True),
        ("https://A.EXAMPLE/jobs/one.json", True),
        ("https://a.example/jobs", True),
        ("https://a.example/jobs-of-others/x", False),
        ("https://a.example/", False),
        ("http://a.example/jobs/x", False),
        ("https://a.example:8443/jobs/x", False),
        ("https://a.example.evil/jobs/x", False),
        ("https://evil@a.example/jobs/x", False),
        ("https://a.example@evil/jobs/x", False),
        ("https://a.example/jobs/../x", False),
        ("https://a.example/jobs/..", False),
        ("https://a.example/jobs/./x", False),
        ("https://a.example/jobs//x", False),
        ("https://a.example/jobs/%2E%2e/x", False),
        ("https://a.example/jobs/..%2fx", False),
        ("https://a.example/jobs/..%5cx", False),
        ("https://a.example/jobs\\..\\x", False),
        ("https://a.example/jobs/x\nHost: evil", False),
        ("https://a.example/jobs/x y", False),
        ("https://a.example/jobs/x#y", False),
        ("https://a.example/jobs/\u2025/x", False),
        ("https://a.example:0/jobs/x", False),
        ("https://a.example:port/jobs/x", False),
        ("https://[::1/jobs/x", False),
        ("//a.example/jobs/x", False),
        ("file:///jobs/x", False),
        ("", False),
    ],
)
def test_urls_pass_by_host_and_whole_folders_only(url: str, passes: bool) -> None:
    assert is_url_below(url, "https://a.example/jobs/") is passes
    assert is_url_below(url, "https://a.example/jobs") is passes


def test_a_whole_host_may_be_allowed() -> None:
    assert is_url_below("http://b.example/anything", "http://b.example")
    assert not is_url_below("http://b.example.evil/anything", "http://b.example")


def job(**fields: object) -> tuple[RenderJobSpec, Chunk]:
    given = {
        "frames": FrameRange(count=400, per_chunk=100),
        "command": ("r", "{output}"),
        "chunk_output": "{frame}.png",
    }
    spec = RenderJobSpec.model_validate({**given, **fields})
    return spec, ChunkPlan(spec)[3 if spec.frames else 0]


def test_a_chunk_that_was_too_large_names_the_size_that_fits() -> None:
    used = TimeUsed(work_seconds=885, call_seconds=900, seconds=840, frames=41)

    assert chunk_too_large(*job(), used, kept=False) == (
        "chunk 3 rendered 41 of 100 frames in 840 s; this function ends after 900 s: set frames.per_chunk to at most 38"
    )
    assert chunk_too_large(*job(), used, kept=True).endswith("at most 38; the finished frames are kept")


def test_listed_chunks_and_such_that_finished_no_frame_are_told_what_they_can_do() -> None:
    listed = {"frames": None, "chunks": (ChunkSpec(start=0, count=100),)}
    used = TimeUsed(work_seconds=885, call_seconds=900, seconds=840, frames=41)
    nothing = TimeUsed(work_seconds=885, call_seconds=900, seconds=880, frames=0)

    assert chunk_too_large(*job(**listed), used, kept=False).endswith("give each chunk at most 38 frames")
    assert chunk_too_large(*job(), nothing, kept=False).endswith("set frames.per_chunk to at most 50")
    one = {"frames": FrameRange(count=4, per_chunk=1)}
    assert "longer timeout" in chunk_too_large(*job(**one), nothing, kept=False)


@pytest.mark.parametrize(
    ("files", "mb"),
    [
        ({"memory.max": "2147483648\n"}, 2048),
        ({"memory.max": "max\n"}, 0),
        ({"memory/memory.limit_in_bytes": "536870912\n"}, 512),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0),
        ({}, 0),
    ],
)
def test_the_memory_of_an_instance_is_that_of_its_group(tmp_path: Path, files: dict[str, str], mb: int) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    assert memory_mb({}, tmp_path) == mb
    assert memory_mb({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "3008"}, tmp_path) == 3008


def test_nobody_carries_a_tag_that_nobody_has() -> None:
    assert count_tagged({"LONGTAKE_ATTEMPT": "of-nobody"}) == 0


def test_failures_come_with_what_a_worker_must_know() -> None:
    failed = AgentResult.of_failure(AttemptError("x", fatal=True, wait_seconds=3, another_host=True), 4)

    assert failed == AgentResult(RemoteOutcome.FAILED, "x", True, 3, True, 4)
    assert AgentResult.of_failure(AttemptLostError("x")).outcome is RemoteOutcome.LOST
    assert AgentResult.of_failure(BadJobError("x")) == AgentResult(RemoteOutcome.FAILED, "x", fatal=True)


def test_the_longest_failure_still_makes_a_result() -> None:
    word = AgentResult.of_failure(AttemptError("begin \x1b[31m" + "x\n" * 9000 + "end"))
    result = RemoteResult(attempt="a", outcome=word.outcome, error=word.error)

    assert result.error.startswith("begin x")
    assert result.error.endswith("end")


def test_the_end_of_an_output_begins_with_a_whole_character() -> None:
    assert decode_tail(b"a\xc3\xa9", 2) == "\u00e9"
    assert decode_tail(b"a\xc3\xa9", 1) == ""
    assert decode_tail(b"\xff\xfe") == "\ufffd\ufffd"
    assert len(decode_tail(b"x" * (MOST_BYTES + 5))) == MOST_BYTES


@pytest.mark.parametrize("document", [None, [], "x", 1, {}, {"jobPath": "x"}, {"jobPath": "x", "chunkIndex": "0"}])
def test_wrong_keys_are_no_request(document: object) -> None:
    assert request_in(document) is None


def test_numbers_of_chunks_are_what_javascript_takes_for_one() -> None:
    assert request_in(json.loads('{"jobPath": "x", "chunkIndex": 1.0}')) is not None
    assert request_in(json.loads('{"jobPath": "x", "chunkIndex": true}')) is None
