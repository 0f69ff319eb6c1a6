"""Job files: good ones are read as people mean them, bad ones get one sentence with the field and the fix (promise P9)."""

# ruff: noqa: E501  # a table is read by rows

import datetime
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from support.jobs.invalid_files import BAD_FILES, GOOD, GOOD_YAML, HELIOS, BadFile, chunk

from longtake.chunks import ChunkPlan
from longtake.errors import BadJobError
from longtake.jobfile import loader
from longtake.jobfile.loader import load_job, read_job
from longtake.models.backends import BackendKind, CloudRunBackend, LambdaBackend
from longtake.models.frames import MOST_CHUNKS
from longtake.models.job import RenderJobSpec
from longtake.models.job_fields import LARGEST_INLINE_JOB_BYTES
from longtake.models.policies import ProgressFormat, ResumeUnit, Verdict

MANY = 3_000
EXAMPLES = Path(__file__).parents[2] / "examples"
EXAMPLE_FILES = sorted(path for path in EXAMPLES.rglob("*.yaml") if "node_modules" not in path.parts)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def many_chunks() -> list[dict[str, object]]:
    return [{"start": n * 10, "count": 10, "output": f"chunks/part_{n:06}_of_the_film.mp4"} for n in range(MANY)]


def listed(**changes: object) -> dict[str, object]:
    return {key: value for key, value in GOOD.items() if key != "frames"} | {"chunks": many_chunks()} | changes


@pytest.mark.parametrize("path", EXAMPLE_FILES, ids=lambda path: path.name)
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


def test_json_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert load_job(write(tmp_path / "film.JSON", "\ufeff" + json.dumps(GOOD))).chunk_count == 4


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


def test_policies_travel_and_are_not_part_of_the_work(tmp_path: Path) -> None:
    plain = load_job(write(tmp_path / "film.yaml", GOOD_YAML))
    job = load_job(write(tmp_path / "film.yaml", GOOD_YAML + POLICIES))

    assert read_job(job.to_wire()) == job
    assert job.digest() == plain.digest()


@pytest.mark.parametrize(
    ("key", "written", "read"),
    [
        ("command", "render -o '{output}' --title \"a b\"", ("render", "-o", "{output}", "--title", "a b")),
        ("command", ["r", "-crf", 18, "{output}"], ("r", "-crf", "18", "{output}")),
        ("encode", "-c:v libx264 -crf 18", ("-c:v", "libx264", "-crf", "18")),
        ("encode", ["-crf", 18], ("-crf", "18")),
    ],
    ids=["a command of one line", "a whole number in a command", "options of one line", "a whole number in options"],
)
def test_arguments_are_read_as_people_write_them(key: str, written: object, read: tuple[str, ...]) -> None:
    images: dict[str, object] = {**GOOD, "chunk_output": "f/{frame}.png", "output": "film.mp4"}

    assert getattr(read_job({**images, key: written}), key) == read


@pytest.mark.parametrize(("fps", "rate"), [(30, "30"), ("30", "30"), ("30000/1001", "30000/1001"), ("60/2", "30")])
def test_a_rate_has_one_spelling(fps: object, rate: str) -> None:
    assert read_job({**GOOD, "fps": fps}).fps == rate


def test_null_means_absent() -> None:
    assert read_job({**GOOD, "output": None, "audio": None, "chunks": None}) == read_job(GOOD)


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


def test_a_long_list_cannot_come_from_outside(tmp_path: Path) -> None:
    path = write(tmp_path / "film.json", json.dumps(listed(chunks=many_chunks()[:1])))

    with pytest.raises(BadJobError, match="chunks: are too many to be set from outside; write them into the job file"):
        load_job(path, {"chunks": many_chunks()})


def test_the_tail_of_a_chunk_is_taken_from_the_job() -> None:
    job = read_job(listed(chunks=[{"start": 0, "count": 2}, {"start": 2, "count": 3, "output": "b.mp4"}]))

    assert [chunk.outputs() for chunk in ChunkPlan(job)] == [("chunks/000000.mp4",), ("b.mp4",)]


def test_a_client_that_says_its_contract_may_send_more_than_is_known_here() -> None:
    document = {**GOOD, "contract": 7, "mood": "blue", "retry": {"attempts": 2, "jitter": 0.5}}

    assert read_job(document) == read_job({**GOOD, "contract": 7, "retry": {"attempts": 2}})
    assert isinstance(read_job(document), RenderJobSpec)


NOT_FOR_PEOPLE = ("Traceback", "pydantic", "Value error", "ValueError", "Error:", "<class", "object at 0x", "errors.")


def refusal(path: Path, **overrides: object) -> str:
    with pytest.raises(BadJobError) as caught:
        load_job(path, overrides)
    return str(caught.value)


def refused(document: object) -> str:
    with pytest.raises(BadJobError) as caught:
        read_job(document)
    return str(caught.value)


def assert_is_a_sentence(text: str) -> None:
    assert text == text.strip()
    assert all(character.isprintable() for character in text), "one line, and nothing that moves a cursor"
    assert len(text) < 600
    assert ": " in text, "names the field or the file"
    assert not [words for words in NOT_FOR_PEOPLE if words in text]


@pytest.mark.parametrize("bad", BAD_FILES, ids=lambda bad: bad.name)
def test_a_bad_job_file_is_refused_in_one_sentence(bad: BadFile, tmp_path: Path) -> None:
    path = tmp_path / bad.file
    path.write_bytes(bad.raw)

    text = refusal(path)

    assert_is_a_sentence(text)
    assert bad.fragment in text


def test_the_table_is_long_and_its_names_differ() -> None:
    assert len({bad.name for bad in BAD_FILES}) == len(BAD_FILES) >= 60


def test_the_good_files_of_the_table_are_good(tmp_path: Path) -> None:
    yaml_file = tmp_path / "good.yaml"
    yaml_file.write_text(GOOD_YAML)

    assert load_job(yaml_file).digest() == read_job({**GOOD, "base_dir": str(tmp_path)}).digest()
    assert read_job(HELIOS).output == "film.mp4"


@pytest.mark.parametrize(
    ("document", "fragment"),
    [
        ([], "job: must be an object of keys and values, such as name, frames, command and chunk_output"),
        (None, "job: must be an object"),
        ("frames", "job: must be an object"),
        ({}, "frames: is missing"),
        ({1: 2}, "1: is not a key of a job; known here"),
        ({**GOOD, "name": b"bytes"}, "name: is b'bytes', which JSON cannot carry; write it as text or number"),
        ({**GOOD, "env": {"A": datetime.date(2024, 5, 1)}}, "env.A: is datetime.date(2024, 5, 1), which JSON cannot"),
        ({**GOOD, "command": {"a"}}, "command: is {'a'}, which JSON cannot carry"),
        ({**GOOD, "env": {b"A": "x"}}, "env: the key b'A' is no text; put it in quotes"),
        ({**GOOD, "fps": 10**5000}, "fps: is a number of more digits than anything here can have"),
        ({**GOOD, "fps": float("nan")}, "fps: is nan; write a finite number"),
        ({**GOOD, "name": "\ud800"}, "name: '\\ud800' holds half a character"),
        ({**GOOD, "env": {"\ud800": "x"}}, "env: the key '\\ud800' holds half a character"),
    ],
)  # fmt: skip
def test_a_bad_document_is_refused_in_one_sentence(document: object, fragment: str) -> None:
    text = refused(document)

    assert_is_a_sentence(text)
    assert fragment in text


def test_a_document_that_holds_itself_is_refused() -> None:
    endless: dict[str, object] = {}
    endless["env"] = endless

    assert "is nested too deeply" in refused({**GOOD, "env": endless})


def test_a_list_beyond_a_million_chunks_is_refused_unread() -> None:
    began = time.monotonic()

    text = refused({**GOOD, "frames": None, "chunks": [chunk()] * (MOST_CHUNKS + 1)})

    assert text == "chunks: are 1,000,001, and a job has at most 1,000,000; make them longer"
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none.yaml", "none.yaml: there is no such job file; check the path"),
        ("", ": is a folder; name the job file in it"),
        ("file/job.yaml", "cannot be read (Not a directory); check its path"),
        ("loop", "cannot be read (Too many levels of symbolic links); check its path"),
        ("x" * 300, "cannot be read (File name too long); check its path"),
        ("/dev/zero", "/dev/zero: is no regular file; write the job into one"),
        ("a\0b", "is no path (embedded null byte); check it"),
    ],
    ids=["missing", "a folder", "below a file", "a loop of links", "too long a name", "a device", "a name with a NUL"],
)
def test_what_is_no_job_file_is_named_with_the_reason(name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")

    text = refusal(tmp_path / name)

    assert_is_a_sentence(text)
    assert says in text


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(loader.LARGEST_FILE_BYTES + 1)

    assert refusal(path).endswith("huge.json: has 16 MiB, and a job file at most 16; use frames instead of a list")


def test_a_file_name_with_a_newline_stays_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a\nb.json"
    path.write_text("{")

    assert_is_a_sentence(refusal(path))


@pytest.mark.parametrize(
    ("key", "value", "fragment"),
    [
        ("retry.atempts", 2, "retry.atempts: is not a key of a job; did you mean attempts?"),
        ("fps.number", 2, "fps.number: fps has no keys of its own; set fps as a whole"),
        ("command.0", "x", "command.0: command has no keys of its own; set command as a whole"),
        ("max_parallel", "many", "max_parallel: is 'many'; write a whole number"),
        ("", 1, "'': is not a key of a job"),
    ],
)
def test_a_bad_override_is_refused_in_one_sentence(key: str, value: object, fragment: str, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(GOOD_YAML)

    text = refusal(path, **{key: value})

    assert_is_a_sentence(text)
    assert fragment in text


S3 = "s3://films/2025"


def job(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**GOOD, **changes}.items() if value is not None}


def backend(type: str = "lambda", **fields: Any) -> dict[str, Any]:
    return job(backend={"type": type, **fields})


def test_a_backend_can_be_set_from_outside(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps(GOOD))

    assert load_job(path, {"backend": "lambda"}).backend_kind is BackendKind.LAMBDA
    assert load_job(path, {"backend": "lambda"}).remote == LambdaBackend()
    chosen = {"backend.type": "cloud_run", "backend.vcpus": 4, "store": S3}
    assert load_job(path, chosen).remote == CloudRunBackend(vcpus=4)
    with pytest.raises(BadJobError, match=r"^backend\.type: is missing; choose lambda or cloud_run$"):
        load_job(path, {"backend.function": "render"})


def test_the_longest_list_of_chunks_that_travels_is_read_in_a_fraction_of_a_workflow_task() -> None:
    """A task ends after 2 s on a machine that does other things too: it failed again and again."""
    chunks = [{"start": frame, "count": 1} for frame in range(6657)]
    document = {"chunks": chunks, "command": ["r", "{output}"], "chunk_output": "o/{chunk}.txt", "base_dir": "/x"}
    read_job(document)

    began = time.thread_time()
    job = read_job(document)
    took = time.thread_time() - began

    assert 190_000 < job.wire_size_bytes() <= LARGEST_INLINE_JOB_BYTES
    assert took < 0.3
