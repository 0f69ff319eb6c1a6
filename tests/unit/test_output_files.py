"""Outputs that are links become files, and what is no file of the attempt is refused by name."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from activities.attempts.output_files import replace_links, sign_outputs
from activities.errors import AttemptError
from activities.stores.job_folder import JobFolder
from activities.stores.publish import stage_files
from longtake.stores.directory import DirectoryStore


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "store/.longtake/job/attempts/000000/a"
    place.mkdir(parents=True)
    return place


@pytest.mark.parametrize("named", [lambda place: "real.png", lambda place: place / "real.png"])
def test_a_link_inside_the_attempt_becomes_the_file_it_names(place: Path, named: Callable[[Path], str]) -> None:
    (place / "real.png").write_text("picture")
    (place / "f.png").symlink_to(named(place))

    replace_links([place / "f.png"], place)

    assert not (place / "f.png").is_symlink()
    assert (place / "f.png").read_text() == "picture"


def test_two_outputs_that_name_one_file_both_become_it(place: Path) -> None:
    (place / "held.png").write_text("picture")
    outputs = [place / "1.png", place / "2.png"]
    for output in outputs:
        output.symlink_to("held.png")

    replace_links(outputs, place)

    assert [output.read_text() for output in outputs] == ["picture", "picture"]
    assert not any(output.is_symlink() for output in outputs)


def test_a_missing_output_is_left_to_the_check(place: Path) -> None:
    replace_links([place / "f.png", place / "no/f.png"], place)


def _link_out(output: Path) -> None:
    outside = output.parents[5] / "secret.txt"
    outside.write_text("secret")
    output.symlink_to(outside)


def _folder_out(output: Path) -> None:
    outside = output.parents[6] / "outside"
    outside.mkdir()
    (outside / output.name).write_text("secret")
    output.parent.rmdir()
    output.parent.symlink_to(outside)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_link_out, "f.png leads by a symbolic link to .*secret.txt, outside"),
        (_folder_out, "f.png leads by a symbolic link to .*outside/f.png, outside"),
        (lambda output: output.symlink_to("nothing.png"), "f.png is a symbolic link to .*nothing.png, and there is no"),
        (lambda output: output.symlink_to("."), "f.png is a folder and no regular file"),
        (Path.mkdir, "f.png is a folder and no regular file"),
        (os.mkfifo, "f.png is a pipe and no regular file"),
    ],
)
def test_what_is_no_file_of_the_attempt_is_refused_by_name(
    place: Path, make: Callable[[Path], None], said: str
) -> None:
    output = place / "out/f.png"
    output.parent.mkdir()
    make(output)

    with pytest.raises(AttemptError, match=said):
        replace_links([output], place)


@pytest.mark.parametrize("change", ["write", "exchange", "link"])
def test_only_the_file_that_was_checked_is_published(tmp_path: Path, place: Path, change: str) -> None:
    store = DirectoryStore(tmp_path / "store")
    folder = JobFolder(store, "job")
    output = place / "f.png"
    output.write_text("checked")
    proven = sign_outputs([output], output.parent)

    if change == "write":
        output.write_text("changed!")
    else:
        other = place / "other.png"
        other.write_text("changed")
        output.unlink()
        other.rename(output) if change == "exchange" else output.symlink_to(other)

    with pytest.raises(AttemptError, match=r"f\.png (was written to|has become a symbolic link) after it was checked"):
        stage_files(folder, [output], str(place), [store.locate("f.png")], proven)
