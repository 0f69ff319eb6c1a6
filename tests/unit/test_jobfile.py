"""Reading good job files: YAML and JSON, defaults of the file, values from outside, and lists too long to travel."""

import hashlib
import json
from pathlib import Path

import pytest
import yaml
from bad_files import GOOD, GOOD_YAML

from longtake.chunks import ChunkPlan
from longtake.errors import BadJobError
from longtake.jobfile.loader import load_job, read_chunk_list, read_job
from longtake.models.job import RenderJobSpec
from longtake.models.job_fields import LARGEST_INLINE_JOB_BYTES, ChunkSpec
from longtake.models.policies import FailurePolicy, ProgressFormat, ResumeUnit, Verdict

MANY = 3_000
EXAMPLES = Path(__file__).parents[2] / "examples"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def many_chunks() -> list[dict[str, object]]:
    return [{"start": n * 10, "count": 10, "output": f"chunks/part_{n:06}_of_the_film.mp4"} for n in range(MANY)]


def listed(**changes: object) -> dict[str, object]:
    return {key: value for key, value in GOOD.items() if key != "frames"} | {"chunks": many_chunks()} | changes


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.yaml")), ids=lambda path: path.name)
def test_an_example_is_a_job(path: Path) -> None:
    job = load_job(path)

    assert all(chunk.outputs() for chunk in ChunkPlan(job))


def test_yaml_and_json_are_the_same_job(tmp_path: Path) -> None:
    as_yaml = load_job(write(tmp_path / "film.yaml", GOOD_YAML))
    as_json = load_job(write(tmp_path / "film.json", json.dumps(GOOD)))

    assert as_yaml == as_json


def test_paths_start_from_the_folder_of_the_file(tmp_path: Path) -> None:
    assert load_job(write(tmp_path / "film.yaml", GOOD_YAML)).base_dir == str(tmp_path.resolve())
    named = load_job(write(tmp_path / "film.yaml", GOOD_YAML + "base_dir: /farm\n"))
    assert named.base_dir == "/farm"


@pytest.mark.parametrize(
    ("file", "name"),
    [("my film.v2.yaml", "my film.v2"), ("a\nb.yaml", "ab"), ("\x01.yaml", "job"), ("x" * 150 + ".yaml", "x" * 100)],
)
def test_a_job_is_called_like_its_file(file: str, name: str, tmp_path: Path) -> None:
    assert load_job(write(tmp_path / file, GOOD_YAML)).name == name


def test_a_name_in_the_file_wins(tmp_path: Path) -> None:
    assert load_job(write(tmp_path / "film.yaml", GOOD_YAML + "name: plasma\n")).name == "plasma"


@pytest.mark.parametrize("start", ["\ufeff", "\n\n", "# a film\n", "---\n", "%YAML 1.1\n---\n"])
def test_yaml_may_begin_in_many_ways(start: str, tmp_path: Path) -> None:
    assert load_job(write(tmp_path / "film.yaml", start + GOOD_YAML)).chunk_count == 4


def test_json_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert load_job(write(tmp_path / "film.JSON", "\ufeff" + json.dumps(GOOD))).chunk_count == 4


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("name: 2024-05-01", "name", "2024-05-01"),
        ("env: {DAY: 2024-05-01 10:00:00}", "env", {"DAY": "2024-05-01 10:00:00"}),
        ('env: {N: "1"}', "env", {"N": "1"}),
        ("max_parallel: 0x10", "max_parallel", 16),
        ("max_parallel: 1_00", "max_parallel", 100),
        ("allow_gaps: yes", "allow_gaps", True),
        ("on_chunk_failure: continue", "on_chunk_failure", FailurePolicy.CONTINUE),
        ("on_chunk_failure: hold", "on_chunk_failure", FailurePolicy.HOLD),
        ("audio: null", "audio", None),
    ],
)
def test_yaml_values_mean_what_people_mean(line: str, field: str, value: object, tmp_path: Path) -> None:
    assert getattr(load_job(write(tmp_path / "film.yaml", GOOD_YAML + line + "\n")), field) == value


POLICIES = r"""
retry:
  same_host: 1
  rules:
    - {exit_codes: [137, -9], then: another_host, wait_seconds: 30}
    - {pattern: 'CUDA error: out of memory', then: another_host}
    - {exit_codes: [11], pattern: 'Saved: .*', then: accept}
    - {pattern: 'licen[cs]e', wait_seconds: 600}
    - {pattern: 'no such scene', then: give_up}
on_chunk_failure: continue
max_failed_chunks: 10%
timeouts: {linger_seconds: 5}
progress:
  format: blender
  patterns: ['Frame (?P<frame>\d+)', '(?P<done>\d+) of (?P<total>\d+)', '(?P<percent>\d+) ?%']
  fatal_patterns: ['^Error: ']
resume: chunk
"""


def test_what_becomes_of_failures_is_read_from_yaml(tmp_path: Path) -> None:
    job = load_job(write(tmp_path / "film.yaml", GOOD_YAML + POLICIES))

    verdicts = [rule.then for rule in job.retry.rules]
    assert verdicts == [
        Verdict.ANOTHER_HOST, Verdict.ANOTHER_HOST, Verdict.ACCEPT, Verdict.RETRY, Verdict.GIVE_UP
    ]  # fmt: skip
    assert job.retry.rules[0].exit_codes == (137, -9)
    assert (job.retry.same_host, job.timeouts.linger_seconds) == (1, 5)
    assert (job.progress.format, len(job.progress.patterns)) == (ProgressFormat.BLENDER, 3)
    assert job.resume is ResumeUnit.CHUNK


@pytest.mark.parametrize(
    ("limit", "chunks", "failures"),
    [
        ("0", 100, 0), ("3", 100, 3), ("10%", 100, 10), ("10%", 19, 1), ("0.5%", 1000, 5), ("100%", 7, 7),
        ("null", 100, None),
    ],
)  # fmt: skip
def test_a_limit_of_failed_chunks_is_a_count_or_a_share(
    limit: str, chunks: int, failures: int | None, tmp_path: Path
) -> None:
    text = GOOD_YAML + f"on_chunk_failure: continue\nmax_failed_chunks: {limit}\n"

    assert load_job(write(tmp_path / "film.yaml", text)).failure_limit(chunks) == failures


def test_policies_travel_and_are_not_part_of_the_work(tmp_path: Path) -> None:
    plain = load_job(write(tmp_path / "film.yaml", GOOD_YAML))
    job = load_job(write(tmp_path / "film.yaml", GOOD_YAML + POLICIES))

    assert read_job(job.to_wire()) == job
    assert job.digest() == plain.digest()


def test_yaml_aliases_save_writing(tmp_path: Path) -> None:
    text = """
fps: 30
chunks:
  - {start: 0, count: 5, output: a.mp4, command: &render [render, "{output}"]}
  - {start: 5, count: 5, output: b.mp4, command: *render}
"""
    job = load_job(write(tmp_path / "film.yaml", text))

    assert [chunk.command for chunk in job.inline_chunks] == [("render", "{output}")] * 2


def test_a_command_may_be_one_line() -> None:
    assert read_job({**GOOD, "command": "render -o '{output}' --title \"a b\""}).command == (
        "render", "-o", "{output}", "--title", "a b"
    )  # fmt: skip


def test_whole_numbers_among_arguments_need_no_quotes() -> None:
    images: dict[str, object] = {**GOOD, "chunk_output": "f/{frame}.png", "output": "film.mp4"}
    job = read_job({**images, "command": ["r", "-crf", 18, "{output}"], "encode": ["-crf", 18]})

    assert job.command == ("r", "-crf", "18", "{output}")
    assert job.encode == ("-crf", "18")


def test_encoder_options_may_be_one_line() -> None:
    job = read_job({**GOOD, "chunk_output": "f/{frame}.png", "output": "a.mp4", "encode": "-c:v libx264 -crf 18"})

    assert job.encode == ("-c:v", "libx264", "-crf", "18")


@pytest.mark.parametrize(("fps", "rate"), [(30, "30"), ("30", "30"), ("30000/1001", "30000/1001"), ("60/2", "30")])
def test_a_rate_has_one_spelling(fps: object, rate: str) -> None:
    assert read_job({**GOOD, "fps": fps}).fps == rate


def test_null_means_absent() -> None:
    assert read_job({**GOOD, "output": None, "audio": None, "chunks": None}) == read_job(GOOD)


@pytest.mark.parametrize("film", ["chunks/0.mp4", "chunks/000004.mp4", "chunks/000003.mov", "000003.mp4"])
def test_a_film_may_look_like_a_chunk_that_there_is_not(film: str) -> None:
    assert read_job({**GOOD, "output": film}).output == film


@pytest.mark.parametrize(
    ("template", "film", "clash"),
    [
        ("c/{start}.mp4", "c/25.mp4", True), ("c/{start}.mp4", "c/24.mp4", False),
        ("c/{stop}.mp4", "c/100.mp4", True), ("c/{stop}.mp4", "c/0.mp4", False),
        ("c/{last}.mp4", "c/99.mp4", True), ("c/{last}.mp4", "c/100.mp4", False),
        ("{start}-{last}.mp4", "25-49.mp4", True), ("{start}-{last}.mp4", "25-50.mp4", False),
        ("{count}_{chunk}.mp4", "25_1.mp4", True), ("{count}_{chunk}.mp4", "1_1.mp4", False),
        ("{chunk:3}.mp4", "  2.mp4", True), ("{chunk:3}.mp4", "2.mp4", False),
        ("f{frame:03}.mp4", "f099.mp4", True), ("f{frame:03}.mp4", "f100.mp4", False),
        ("/farm/{chunk}.mp4", "0.mp4", True), ("/other/{chunk}.mp4", "0.mp4", False),
        ("//farm/{chunk}.mp4", "0.mp4", True), ("/../farm/{chunk}.mp4", "0.mp4", True),
    ],
)  # fmt: skip
def test_a_film_never_is_one_of_its_chunks(template: str, film: str, clash: bool) -> None:
    document = {**GOOD, "chunk_output": template, "output": film, "base_dir": "/farm"}
    if clash:
        with pytest.raises(BadJobError, match=r"^output: chunk [0-3] writes this file too"):
            read_job(document)
    else:
        assert read_job(document).output == film


def test_values_from_outside_win(tmp_path: Path) -> None:
    path = write(tmp_path / "film.yaml", GOOD_YAML + "retry: {attempts: 2, backoff: 3}\n")
    job = load_job(path, {"retry.attempts": 7, "timeouts.chunk_seconds": 5, "fps": "25", "env.A": "b"})

    assert (job.retry.attempts, job.retry.backoff) == (7, 3)
    assert (job.timeouts.chunk_seconds, job.fps, job.env) == (5, "25", {"A": "b"})


def test_a_short_list_travels_with_the_job(tmp_path: Path) -> None:
    job = load_job(write(tmp_path / "film.json", json.dumps(listed(chunks=many_chunks()[:100]))))

    assert job.chunk_list is None
    assert len(job.inline_chunks) == 100


def test_a_long_list_stays_in_its_file(tmp_path: Path) -> None:
    path = write(tmp_path / "film.json", json.dumps(listed()))
    job = load_job(path)

    assert job.chunk_list is not None
    assert job.chunk_list.path == str(path.resolve())
    assert job.chunk_list.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert job.chunk_list.count == job.chunk_count == MANY
    assert len(json.dumps(job.to_wire())) < 1024 < LARGEST_INLINE_JOB_BYTES < path.stat().st_size


@pytest.mark.parametrize("file", ["film.json", "film.yaml"])
def test_a_long_list_is_read_back_as_it_was(file: str, tmp_path: Path) -> None:
    text = json.dumps(listed()) if file.endswith("json") else yaml.safe_dump(listed())
    path = write(tmp_path / file, text)
    job = load_job(path)
    # A worker has the bytes only, under a name of its own.
    chunks = read_chunk_list(path.read_bytes(), "list.json")

    assert chunks == tuple(ChunkSpec.model_validate(chunk) for chunk in many_chunks())
    assert ChunkPlan(job, chunks).frame_count == MANY * 10


def test_a_long_helios_list_is_read_back(tmp_path: Path) -> None:
    chunks = [
        {"id": n, "startFrame": n, "frameCount": 1, "outputFile": f"p{n}.mov", "command": f"helios -o p{n}.mov -s {n}"}
        for n in range(MANY)
    ]
    path = write(tmp_path / "job.json", json.dumps({"metadata": {"fps": 30}, "chunks": chunks}))
    job = load_job(path)
    plan = ChunkPlan(job, read_chunk_list(path.read_bytes(), "list.json"))

    assert job.chunk_list is not None
    assert plan[MANY - 1].command_template == ("helios", "-o", "{output}", "-s", str(MANY - 1))


def test_a_list_is_read_back_though_the_rest_came_from_outside(tmp_path: Path) -> None:
    document = {key: value for key, value in listed().items() if key != "command"}
    path = write(tmp_path / "film.json", json.dumps(document))
    job = load_job(path, {"command": "render {output}"})

    assert job.command == ("render", "{output}")
    assert len(read_chunk_list(path.read_bytes(), "list.json")) == MANY


def test_a_long_list_cannot_come_from_outside(tmp_path: Path) -> None:
    path = write(tmp_path / "film.json", json.dumps(listed(chunks=many_chunks()[:1])))

    with pytest.raises(BadJobError, match="chunks: are too many to be set from outside; write them into the job file"):
        load_job(path, {"chunks": many_chunks()})


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"chunks": []}', b'{"chunks": 3}', b"\xff", b"chunks: [3]"])
def test_what_is_no_list_is_refused(raw: bytes) -> None:
    with pytest.raises(BadJobError):
        read_chunk_list(raw, "list.json")


def test_the_tail_of_a_chunk_is_taken_from_the_job() -> None:
    job = read_job(listed(chunks=[{"start": 0, "count": 2}, {"start": 2, "count": 3, "output": "b.mp4"}]))

    assert [chunk.outputs() for chunk in ChunkPlan(job)] == [("chunks/000000.mp4",), ("b.mp4",)]


def test_a_client_that_says_its_contract_may_send_more_than_is_known_here() -> None:
    document = {**GOOD, "contract": 7, "mood": "blue", "retry": {"attempts": 2, "jitter": 0.5}}

    assert read_job(document) == read_job({**GOOD, "contract": 7, "retry": {"attempts": 2}})
    assert isinstance(read_job(document), RenderJobSpec)
