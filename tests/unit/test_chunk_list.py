"""Chunk lists in files: read chunk by chunk, by the rules of a list that travels with its job, and in little memory."""

# ruff: noqa: E501  # texts of one line

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.jobs.invalid_files import GOOD

from longtake.chunks import ChunkPlan
from longtake.errors import BadJobError
from longtake.jobfile.chunk_list import read_chunk_list
from longtake.jobfile.loader import LARGEST_FILE_BYTES, check_list_size, load_job, read_job
from longtake.models.frames import ChunkList, ChunkSpec
from longtake.models.job_fields import LARGEST_INLINE_JOB_BYTES, MOST_LISTED_CHUNKS

# With paths of this length longer than a message may be.
MANY = 300
FOLDER = "chunks/" + "/".join(["a_folder_with_a_long_name" * 4] * 9)


def many_chunks() -> list[dict[str, object]]:
    return [{"start": n * 10, "count": 10, "output": f"{FOLDER}/part_{n:06}.mp4"} for n in range(MANY)]


def job_file(**changes: object) -> dict[str, object]:
    return {key: value for key, value in GOOD.items() if key != "frames"} | {"chunks": many_chunks()} | changes


def encode(*chunks: object) -> bytes:
    return json.dumps({"chunks": chunks}).encode()


@pytest.mark.parametrize("file", ["film.json", "film.yaml"])
def test_a_long_list_is_read_back_as_it_was(file: str, tmp_path: Path) -> None:
    path = tmp_path / file
    path.write_text(json.dumps(job_file()) if file.endswith("json") else yaml.safe_dump(job_file()))
    job = load_job(path)
    # A worker has the bytes only, under a name of its own.
    chunks = read_chunk_list(path.read_bytes(), "list.json", {})

    assert tuple(chunks) == tuple(ChunkSpec.model_validate(chunk) for chunk in many_chunks())
    assert chunks[-1] == chunks[MANY - 1]
    assert chunks[:2] == (chunks[0], chunks[1])
    assert ChunkPlan(job, chunks).frame_count == MANY * 10


def test_a_long_helios_list_is_read_back(tmp_path: Path) -> None:
    chunks = [
        {
            "id": n,
            "startFrame": n,
            "frameCount": 1,
            "outputFile": f"p{n}.mov",
            "command": f"helios -o p{n}.mov -s {n} {FOLDER}",
        }
        for n in range(MANY)
    ]
    path = tmp_path / "job.json"
    path.write_text(json.dumps({"metadata": {"fps": 30}, "chunks": chunks}))
    job = load_job(path)
    plan = ChunkPlan(job, read_chunk_list(path.read_bytes(), "list.json", {}))

    assert job.chunk_list is not None
    assert plan[MANY - 1].command_template == ("helios", "-o", "{output}", "-s", str(MANY - 1), FOLDER)


def test_a_list_is_read_back_though_the_rest_came_from_outside(tmp_path: Path) -> None:
    document = {key: value for key, value in job_file().items() if key != "command"}
    path = tmp_path / "film.json"
    path.write_text(json.dumps(document))
    job = load_job(path, {"command": "render {output}"})

    assert job.command == ("render", "{output}")
    assert len(read_chunk_list(path.read_bytes(), "list.json", {})) == MANY


@pytest.mark.parametrize(
    "text",
    [
        '\ufeff {"chunks" :\n[ {"start":0,"count":2} ,\t{"start":2,"count":1,"output":"b]}}.dat"}\r\n] }',
        '{"a": {"chunks": [1, "]"]}, "b\\"": "}{", "chunks": [{"start":0,"count":2},{"start":2,"count":1,"output":"b]}}.dat"}]}',
        '{"n": -1.5e3, "t": true, "z": null, "chunks": [{"start":0,"count":2},{"output":"b]}}.dat","start":2,"count":1}], "e": []}',
    ],
    ids=["space", "brackets in texts", "other values"],
)  # fmt: skip
def test_any_json_is_read(text: str) -> None:
    chunks = read_chunk_list(text.encode(), "list.json", {})

    assert [(chunk.start, chunk.count, chunk.output) for chunk in chunks] == [(0, 2, None), (2, 1, "b]}}.dat")]


def test_paths_in_any_language_are_read() -> None:
    output = '日本/é".mp4'
    text = json.dumps({"chunks": [{"start": 0, "count": 1, "output": output}]}, ensure_ascii=False)

    assert read_chunk_list(text.encode(), "list.json", {})[0].output == output


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"[]", b"{}", b'{"chunks": []}', b'{"chunks": 3}', b"\xff", b"chunks: [3]", b'{"chunks": [3]}'),
        *(b'{"chunks": [{"start": 0, "count": 1}', b'{"chunks": [{"start": 0 "count": 1}]}', b'{"chunks": [}'),
        *(b'{"chunks": [{"start": 0, "count": 1}}', b'{"chunks": [{"start": 0, "count": 1, "output": "a}]}'),
    ],
)
def test_what_is_no_list_is_refused(raw: bytes) -> None:
    with pytest.raises(BadJobError):
        read_chunk_list(raw, "list.json", {})


@pytest.mark.parametrize(
    "chunks",
    [
        [{"start": 0}],
        [{"start": 0, "count": "1"}],
        [{"start": 0, "count": 1}, 7],
        [{"start": 0, "count": 1, "id": 4}, {"start": 1, "count": 1, "id": 4}],
        [{"start": 2**31 - 2, "count": 5}],
        [{"start": 0, "count": 1, "output": "a.mp4"}, {"start": 1, "count": 1, "output": "./a.mp4"}],
        [{"start": 0, "count": 5, "output": "{frame}.png"}, {"start": 3, "count": 5, "output": "{frame}.png"}],
        [{"start": 0, "count": 100_001, "output": "{frame}.png"}],
        [{"start": 0, "count": 1, "command": []}],
        [{"start": 0, "count": 1, "command": ["r", "{nothing}"]}],
        [{"start": 0, "count": 1, "output": "a/../../b\n.mp4"}],
    ],
)
def test_a_list_in_a_file_is_refused_by_the_sentence_of_one_that_travels(chunks: list[Any]) -> None:
    job = {"contract": 1, "chunks": chunks, "fps": 1, "command": ["-"], "chunk_output": "{chunk}"}
    with pytest.raises(BadJobError) as inline:
        read_job(job)

    with pytest.raises(BadJobError) as listed:
        read_chunk_list(encode(*chunks), "list.json", {})

    assert str(listed.value) == str(inline.value)


def test_a_chunk_that_is_longer_than_a_job_is_refused_unread() -> None:
    with pytest.raises(BadJobError, match=r"chunks\[0\]: has 2\d\d,\d\d\d bytes; shorten its command"):
        read_chunk_list(encode({"start": 0, "count": 1, "command": ["x" * LARGEST_INLINE_JOB_BYTES]}), "list.json", {})


@pytest.mark.parametrize(
    ("count", "size_bytes", "sentence"),
    [
        (MOST_LISTED_CHUNKS + 1, 1, "chunks: are 100,001, and a list has at most 100,000; make them longer, or use"),
        (1, LARGEST_FILE_BYTES + 2**20, "chunks.path: list.json has 17 MiB, and a job file at most 16; make"),
    ],
)
def test_a_list_beyond_what_a_worker_can_hold_is_refused(count: int, size_bytes: int, sentence: str) -> None:
    reference = ChunkList(path="list.json", sha256="0" * 64, count=count)
    with pytest.raises(BadJobError, match=sentence):
        check_list_size(reference, size_bytes)

    check_list_size(reference.model_copy(update={"count": MOST_LISTED_CHUNKS}), LARGEST_FILE_BYTES)
