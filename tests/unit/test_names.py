"""Names that clients, workflows and workers agree on."""

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.errors import BadJobError
from longtake.models.backends import BackendKind
from longtake.names import (
    SEARCH_ATTRIBUTES,
    check_job_id,
    find_job_values,
    job_folder_name,
    make_job_id,
    name_earlier_start,
    render_queue,
)
from longtake.paths import check_path
from longtake.stores.s3_objects import Keys


@pytest.mark.parametrize("job_id", ["a", "0", "film", "film-1.2_3", "Film", "x" * 100, "a..b", "a-"])
def test_a_good_job_id_is_passed_as_it_is(job_id: str) -> None:
    assert check_job_id(job_id) == job_folder_name(job_id) == job_id


@given(st.text())
def test_a_new_id_is_a_good_one_whatever_the_name(name: str) -> None:
    assert len(check_job_id(make_job_id(name))) <= 69


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("Mandelbrot", "mandelbrot-"),
        ("My Film (final)", "my-film-final-"),
        ("日本", "job-"),
        ("", "job-"),
        ("--", "job-"),
    ],
)
def test_a_new_id_begins_with_the_name(name: str, start: str) -> None:
    assert make_job_id(name).startswith(start)


def test_two_new_ids_differ() -> None:
    assert len({make_job_id("film") for _ in range(100)}) == 100


def test_local_renders_have_a_queue_of_their_own() -> None:
    assert render_queue("longtake", BackendKind.LOCAL) == "longtake-local"


def test_search_attributes_are_ours_by_name() -> None:
    assert [key.name for key in SEARCH_ATTRIBUTES] == ["LongtakeState", "LongtakeName", "LongtakeProgress"]


NOT_FOR_PEOPLE = ("Traceback", "pydantic", "Value error", "ValueError", "Error:", "<class", "object at 0x", "errors.")


def assert_is_a_sentence(text: str) -> None:
    assert text == text.strip()
    assert all(character.isprintable() for character in text), "one line, and nothing that moves a cursor"
    assert len(text) < 400
    assert ": " in text, "names the field or the file"
    assert not [words for words in NOT_FOR_PEOPLE if words in text]


@pytest.mark.parametrize(
    "job_id", ["", " ", "a\nb", "a\n", "\na", "a\0b", "a\x1b[2J", "\u202ea", "x" * 1001, "a~0123456789abcdef"]
)
def test_a_bad_job_id_is_refused_in_one_sentence(job_id: str) -> None:
    with pytest.raises(BadJobError) as caught:
        check_job_id(job_id)

    assert_is_a_sentence(str(caught.value))


@pytest.mark.parametrize(
    ("job_id", "slug"),
    [
        ("nightly-2026-11-28T02:00:00Z", "nightly-2026-11-28T02-00-00Z"), ("a/b", "a-b"), ("../a", "a"), ("..", "job"),
        (".hidden", "hidden"), ("-x", "x"), ("a b", "a-b"), ("é", "job"), ("x" * 101, "x" * 80), ("inputs", "inputs"),
        ("Inputs", "Inputs"), ("film~1", "film-1"),
    ],
)  # fmt: skip
def test_the_folder_of_any_other_id_is_a_safe_name_of_its_own(job_id: str, slug: str) -> None:
    folder = job_folder_name(check_job_id(job_id))

    assert folder.startswith(f"{slug}~")
    assert len(folder) == len(slug) + 17
    assert job_folder_name(folder) == folder
    with pytest.raises(BadJobError):
        check_job_id(folder)


@given(st.text(), st.text())
def test_two_ids_never_share_a_folder(one: str, other: str) -> None:
    assert (job_folder_name(one) == job_folder_name(other)) == (one == other)


@pytest.mark.parametrize("name", [".longtake", ".Longtake", ".LONGTAKE"])
def test_longtakes_own_folder_is_its_own_in_any_letter_case(name: str) -> None:
    """File systems of macOS and Windows do not tell them apart."""
    with pytest.raises(ValueError, match=r"lies in \.longtake"):
        check_path(f"a/{name}/job/job.json")


@pytest.mark.parametrize("bucket", ["inputs", "tools", "helios"])
def test_no_bucket_is_taken_for_what_a_host_keeps_in_its_scratch_folder(tmp_path: Path, bucket: str) -> None:
    local = Keys(f"s3://{bucket}", tmp_path).local(f"s3://{bucket}/.longtake/job/attempts/1/a")
    assert not local.is_relative_to(tmp_path / bucket)


@given(st.text(min_size=1, max_size=200), st.integers(0, 2**32).map(lambda at: datetime.fromtimestamp(at, UTC)))
def test_what_job_and_time_stand_for_fits_any_path(job_id: str, at: datetime) -> None:
    values = find_job_values(job_id, at)

    assert set(values) == {"job", "date", "time"}
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._~-]*", value) for value in values.values())


def test_times_are_those_of_utc_on_all_hosts() -> None:
    at = datetime(2026, 11, 28, 0, 30, 5, tzinfo=timezone(timedelta(hours=2)))

    assert find_job_values("film-1", at) == {"job": "film-1", "date": "2026-11-27", "time": "22-30-05"}
    assert find_job_values("film-1", None) == {"job": "film-1"}


def test_records_of_two_starts_have_folders_of_jobs() -> None:
    first = datetime(2026, 11, 28, tzinfo=UTC)
    names = {job_folder_name(name_earlier_start("film-1", first + timedelta(microseconds=n))) for n in range(3)}

    assert len(names) == 3
    assert all(name.startswith("film-1-2026-11-28T") and job_folder_name(name) == name for name in names)
