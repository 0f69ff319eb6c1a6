"""Failed tries by cause: what is masked, which lines matter, what helps, and what still stands in the way."""

from datetime import UTC, datetime, timedelta

import pytest

from longtake.failure_causes import FailureCause, find_help, group_failures, mask_details, parse_error
from longtake.models.status import ChunkFailure
from longtake.stores.try_records import FailedTry

BEGAN = datetime(2026, 11, 29, 12, tzinfo=UTC)


def failed(chunk: int, error: str, *, host: str = "anna", minute: int = 0, **fields: object) -> FailedTry:
    ended = BEGAN + timedelta(minutes=minute)
    return FailedTry(chunk=chunk, attempt=f"a{chunk}{minute}", host=host, ended=ended, error=error, **fields)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("ffmpeg exited with code 187", "ffmpeg exited with code 187"),
        ("blender was ended by signal 9 after 61.8 s", "blender was ended by signal 9 after # s"),
        ("cannot open /mnt/films/sq140/scene_v012.blend", "cannot open ….blend"),
        ("s3://films/sq140/beauty.1655.exr: chunk 41 of 64", "….exr: chunk # of #"),
        ("beauty_1655.exr: chunk 41 is missing", "….exr: chunk # is missing"),
        ("malloc at 0x7ffe12ab failed", "malloc at # failed"),
        ("Error: no licence", "Error: no licence"),
    ],
)
def test_what_differs_from_try_to_try_is_masked(text: str, masked: str) -> None:
    assert mask_details(text) == masked


def test_an_error_is_taken_apart_into_what_happened_its_lines_and_the_fix() -> None:
    quoted = parse_error("chunk 7 (frames 70-79): blender exited with code 1: Error: no camera | Blender quit")
    assert (quoted.what, quoted.lines) == ("blender exited with code 1", ("Error: no camera", "Blender quit"))

    stopped = parse_error("ffmpeg stood still for timeouts.stall_seconds, 60 s: no progress; it said last: frame=3")
    assert stopped.lines == ("frame=3",)

    ours = parse_error("f_0007.png was written to after it was checked; let nothing change checked outputs")
    assert (ours.what, ours.fix) == (
        "f_0007.png was written to after it was checked",
        "let nothing change checked outputs",
    )


@pytest.mark.parametrize(
    ("error", "helps"),
    [
        ("x is missing; have the renderer write it", "have the renderer write it"),
        (
            "blender was ended by a SIGKILL that Longtake did not send; the system may have run out of memory: Fra:1",
            "memory",
        ),
        ("ffmpeg exited with code 1: /a/b.mov: No such file or directory", "inputs"),
        ("kick exited with code 1: [licence] none left", "licences"),
        ("ffmpeg exited with code 1: strange", ""),
    ],
)
def test_what_helps_is_the_fix_of_the_error_or_what_is_known_of_its_kind(error: str, helps: str) -> None:
    assert helps in find_help(parse_error(error))
    assert bool(helps) == bool(find_help(parse_error(error)))


def test_tries_of_one_cause_are_one_group_and_what_keeps_chunks_open_comes_first() -> None:
    killed = "blender was ended by a SIGKILL that Longtake did not send; the system may have run out of memory"
    memory = killed + ": Fra:{} Mem:{}M"
    tries = [
        *(failed(chunk, "ffmpeg exited with code 1: busy", minute=1) for chunk in (1, 2, 3, 9)),
        failed(4, memory.format(1408, 58230), host="berta", minute=2),
        failed(5, memory.format(1409, 61120), host="berta", minute=3, last=True, log="logs/5.log"),
        failed(7, memory.format(1411, 61133), host="anna", minute=4),
    ]

    first, second = group_failures(
        tries, is_done=lambda chunk: chunk not in (5, 7), frames=lambda chunk: range(10 * chunk, 10 * chunk + 10)
    )

    assert (first.tries, first.chunk_count, first.open_chunks, first.gave_up) == (3, 3, 2, True)
    assert first.chunks == ((4, 6), (7, 8))
    assert first.frames == "40-59,70-79"
    assert first.hosts == ("berta", "anna")
    assert first.lines == ("Fra:1411 Mem:61133M",)
    assert (first.example, first.first_at, first.last_at) == (
        7,
        BEGAN + timedelta(minutes=2),
        BEGAN + timedelta(minutes=4),
    )
    assert (second.open_chunks, second.tries) == (0, 4)


def test_a_failure_that_the_status_alone_tells_has_its_cause_too() -> None:
    failures = [ChunkFailure(chunk=1, error="x is empty; y"), ChunkFailure(chunk=2, error="x is empty; y", host="anna")]

    causes = group_failures([failed(1, "x is empty; y")], failures)

    assert [(cause.cause, cause.tries, cause.helps) for cause in causes] == [("x is empty", 2, "y")]


def test_no_failure_is_no_cause() -> None:
    assert group_failures([]) == list[FailureCause]()
