"""Helios job files are taken unmodified."""

import json
from pathlib import Path
from typing import Any

import pytest

from longtake.chunks import ChunkPlan
from longtake.jobfile.helios import is_helios
from longtake.jobfile.loader import load_job, read_job
from longtake.models.job import RenderJobSpec
from longtake.output_patterns import OutputPlaces
from longtake.paths import OutputKind

# As Helios 0.25.0 wrote them.
EXAMPLES = Path(__file__).parent / "helios"


def chunk(number: int = 0, **changes: object) -> dict[str, object]:
    return {
        "id": number,
        "startFrame": number * 10,
        "frameCount": 10,
        "outputFile": f"part_{number}.mov",
        "command": f"helios render in.html -o part_{number}.mov",
        **changes,
    }


def helios(*chunks: dict[str, object], **changes: object) -> dict[str, object]:
    """A Helios document; a key whose value is None is left out."""
    document = {
        "metadata": {"totalFrames": 20, "fps": 30, "width": 64, "height": 64, "duration": 1},
        "chunks": list(chunks or (chunk(0), chunk(1))),
        "mergeCommand": "helios merge film.mp4 part_0.mov part_1.mov",
        **changes,
    }
    return {key: value for key, value in document.items() if value is not None}


def words(line: str) -> tuple[str, ...]:
    return tuple(line.split())


def command_of(job: RenderJobSpec, index: int = 0) -> tuple[str, ...]:
    found = ChunkPlan(job)[index]
    return found.expand_command(found.command_template, (OutputPlaces((), "<output>", "<output>"),))


def test_the_local_example_renders_as_helios_would() -> None:
    job = load_job(EXAMPLES / "job-local.json")

    assert [(c.id, c.start, c.count) for c in job.inline_chunks] == [(0, 0, 100), (1, 100, 100), (2, 200, 100)]
    assert [c.output for c in job.inline_chunks] == [
        f"../out/temp_1795324562842_ijy9pt_part_{number}.mov" for number in range(3)
    ]
    assert command_of(job, 1) == words(
        "helios render ../composition/index.html -o <output> --start-frame 100 --frame-count 100 --width 1280 "
        "--height 720 --fps 30 --quality 23 --mode dom --audio-codec pcm_s16le --video-codec libx264"
    )


def test_the_local_example_is_merged_into_its_film() -> None:
    job = load_job(EXAMPLES / "job-local.json")
    parts = [f"../out/temp_1795324562842_ijy9pt_part_{number}.mov" for number in range(3)]

    assert job.output == "../out/final.mp4"
    assert job.merge_command == ("helios", "merge", "{output}", *parts, "--audio-codec", "aac", "--quality", "23")


def test_the_cloud_example_keeps_its_urls() -> None:
    job = load_job(EXAMPLES / "job-cloud.json")

    assert command_of(job, 2) == words(
        "helios render https://assets.example.com/proj/composition/index.html -o <output> --start-frame 200 "
        "--frame-count 100 --width 1280 --height 720 --fps 30 --mode canvas --audio-codec pcm_s16le"
    )
    assert job.output == "final.mp4"
    assert job.merge_command == (
        "helios", "merge", "{output}", *(f"temp_1795324564271_ivuiec_part_{number}.mov" for number in range(3))
    )  # fmt: skip


@pytest.mark.parametrize("name", ["job-local", "job-cloud"])
def test_an_example_says_what_it_is(name: str) -> None:
    job = load_job(EXAMPLES / f"{name}.json")

    assert (job.name, job.base_dir) == (name, str(EXAMPLES))
    assert (job.fps, job.kind, job.chunk_count) == ("30", OutputKind.VIDEO, 3)
    assert ChunkPlan(job).frame_count == 300


def test_an_example_crosses_the_wire_unchanged() -> None:
    document = json.loads((EXAMPLES / "job-local.json").read_text())

    assert read_job(read_job(document).to_wire()) == read_job(document)


@pytest.mark.parametrize(
    ("merge", "film", "expanded"),
    [
        ("helios merge f.mp4 a.mov", "f.mp4", ("helios", "merge", "{output}", "a.mov")),
        ("/opt/bin/helios merge ./f.mp4 a.mov", "./f.mp4", ("/opt/bin/helios", "merge", "{output}", "a.mov")),
        ("helios merge 'my film.mp4' a.mov", "my film.mp4", ("helios", "merge", "{output}", "a.mov")),
        ("ffmpeg -y -f concat -i l.txt -c copy f.mp4", "f.mp4",
         ("ffmpeg", "-y", "-f", "concat", "-i", "l.txt", "-c", "copy", "{output}")),
        ("ffmpeg -i part_0.mov -i part_1.mov out/f.MP4", "out/f.MP4",
         ("ffmpeg", "-i", "part_0.mov", "-i", "part_1.mov", "{output}")),
    ],
)  # fmt: skip
def test_the_film_of_a_known_merge_is_found(merge: str, film: str, expanded: tuple[str, ...]) -> None:
    job = read_job(helios(mergeCommand=merge))

    assert (job.output, job.merge_command) == (film, expanded)


@pytest.mark.parametrize(
    "merge",
    [
        "node -e \"require('fs').copyFileSync('part_0.mov','f.mp4')\"",
        "./merge.sh part_0.mov part_1.mov",
        "ffmpeg -i part_0.mov -f null -",
        "ffmpeg -i concat:part_0.mov|part_1.mov",
        "helios merge",
    ],
)
def test_the_film_of_another_merge_is_left_to_it(merge: str) -> None:
    job = read_job(helios(mergeCommand=merge))

    assert job.output is None
    assert job.merge_command is not None
    assert "{output}" not in job.merge_command


@pytest.mark.parametrize("merge", [None, ""])
def test_without_a_merge_command_nothing_is_merged(merge: str | None) -> None:
    job = read_job(helios(mergeCommand=merge))

    assert job.merge_command is None
    assert job.output is None


def test_braces_in_commands_and_paths_stay_what_they_are() -> None:
    line = "node -e 'x = {start}; y = {{}}' {chunk} -o {a}.mov"
    job = read_job(helios(chunk(outputFile="{a}.mov", command=line), mergeCommand="sh {b} '{'"))

    assert command_of(job) == ("node", "-e", "x = {start}; y = {{}}", "{chunk}", "-o", "<output>")
    assert ChunkPlan(job)[0].outputs() == ("{a}.mov",)
    assert job.merge_command == ("sh", "{{b}}", "{{")


@pytest.mark.parametrize(
    ("line", "command", "in_place"),
    [
        (
            "r -o ./a/../part_0.mov --copy=part_0.mov part_0.mov.log part_0.mov",
            ("r", "-o", "<output>", "--copy=part_0.mov", "part_0.mov.log", "<output>"),
            False,
        ),
        ("./render.sh 0 10", ("./render.sh", "0", "10"), True),
    ],
    ids=["known by any spelling and nothing else is", "not named, so written in place"],
)
def test_the_output_is_found_in_the_command(line: str, command: tuple[str, ...], in_place: bool) -> None:
    job = read_job(helios(chunk(command=line)))

    assert command_of(job) == command
    assert ChunkPlan(job)[0].writes_in_place is in_place


def test_keys_that_helios_adds_are_passed_over() -> None:
    extra = helios(chunk(0, jobDefUrl="https://x", width=3), id="7", author="me")

    assert read_job(extra) == read_job(helios(chunk(0)))


def test_keys_of_ours_may_stand_beside_those_of_helios() -> None:
    job = read_job(helios(max_parallel=3, retry={"attempts": 2}, fps="25", env={"A": "b"}))

    assert (job.max_parallel, job.retry.attempts, job.fps, job.env) == (3, 2, "25", {"A": "b"})


def test_a_helios_file_takes_values_from_outside(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps(helios()))
    job = load_job(path, {"max_parallel": 2, "retry.attempts": 9, "name": "mine"})

    assert (job.max_parallel, job.retry.attempts, job.name) == (2, 9, "mine")


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        (30, "30"), (30.0, "30"), (29.97, "30000/1001"), (59.94, "60000/1001"), (23.976, "24000/1001"),
        (23.98, "24000/1001"), (119.88, "120000/1001"), (12.5, "25/2"), (0.5, "1/2"), ("30000/1001", "30000/1001"),
    ],
)  # fmt: skip
def test_a_rate_is_the_one_that_was_meant(fps: object, rate: str) -> None:
    assert read_job(helios(metadata={"fps": fps})).fps == rate


def test_ids_are_names_and_not_places() -> None:
    job = read_job(helios(chunk(7), chunk(3), mergeCommand=None))

    assert [c.id for c in job.inline_chunks] == [7, 3]
    assert [c.start for c in ChunkPlan(job)] == [70, 30]


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"chunks": [{"startFrame": 0}]}, True),
        ({"metadata": {}, "mergeCommand": "", "chunks": []}, True),
        ({"chunks": [{"start": 0, "count": 1}]}, False),
        ({"frames": {"count": 1}}, False),
        ({"frames": {"count": 1}, "mergeCommand": "x"}, False),
        ({"chunks": {"path": "x"}}, False),
        ({}, False),
    ],
)
def test_a_helios_document_is_told_by_its_keys(document: dict[str, Any], found: bool) -> None:
    assert is_helios(document) is found
