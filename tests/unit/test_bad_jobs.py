"""Bad input gets one clear sentence that names the field and the fix (promise P9)."""

import datetime
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bad_files import BAD_FILES, GOOD, GOOD_YAML, HELIOS, BadFile, chunk

from longtake.errors import BadJobError
from longtake.jobfile import loader
from longtake.jobfile.loader import load_job, read_job
from longtake.models.job_fields import MOST_CHUNKS
from longtake.names import check_job_id

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
    assert len(text) < 400
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


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    text = refusal(tmp_path / "none.yaml")

    assert text.endswith("none.yaml: there is no such job file; check the path")


def test_a_folder_is_no_job_file(tmp_path: Path) -> None:
    assert refusal(tmp_path).endswith(": is a folder; name the job file in it")


def test_a_file_that_cannot_be_reached_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")

    assert "cannot be read (Not a directory); check its path" in refusal(tmp_path / "file" / "job.yaml")
    assert "cannot be read (Too many levels of symbolic links)" in refusal(tmp_path / "loop")
    assert "cannot be read (File name too long)" in refusal(tmp_path / ("x" * 300))
    assert_is_a_sentence(refusal(tmp_path / "a\0b"))


def test_a_device_is_no_job_file() -> None:
    assert refusal(Path("/dev/zero")) == "/dev/zero: is no regular file; write the job into one"


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(loader.LARGEST_FILE_BYTES + 1)

    assert refusal(path).endswith("huge.json: has 512 MiB, and a job file at most 512; use frames instead of a list")


def test_a_huge_yaml_file_is_sent_to_json(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    path.write_text(GOOD_YAML + "#" * 5_000_000)

    assert refusal(path) == "huge.yaml: cannot be read, it has over 4 MiB; write lists this long as JSON"


def test_a_file_name_with_a_newline_stays_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a\nb.json"
    path.write_text("{")

    assert_is_a_sentence(refusal(path))


def test_an_alias_bomb_takes_neither_time_nor_memory(tmp_path: Path) -> None:
    (bomb,) = [bad for bad in BAD_FILES if bad.name == "a YAML alias bomb"]
    path = tmp_path / bomb.file
    path.write_bytes(bomb.raw)
    script = (
        "import sys; from pathlib import Path; from longtake.jobfile.loader import load_job; "
        "load_job(Path(sys.argv[1]))"
    )

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))

    ended = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=20, preexec_fn=small
    )

    assert ended.stderr.splitlines()[-1].startswith("longtake.errors.BadJobError: bad.yaml: cannot be read")


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


@pytest.mark.parametrize(
    "job_id",
    [
        *("", ".", "..", ".hidden", "-x", "_x", "a/b", "../a", "a b", "a\nb", "a\n", "\na", "a\0b", "film:1", "é"),
        *("\uff11", "x" * 101, "x" * 10_000),
    ],
)
def test_a_bad_job_id_is_refused_in_one_sentence(job_id: str) -> None:
    with pytest.raises(BadJobError) as caught:
        check_job_id(job_id)

    assert_is_a_sentence(str(caught.value))
    assert "is not a job id; use 1 to 100 letters, digits" in str(caught.value)
