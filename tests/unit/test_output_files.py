"""Outputs that are links become files, and what is no file of the attempt is refused by name."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from activities.attempts import output_files
from activities.attempts.output_files import OtherFiles, replace_links, sign_outputs
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


def other_files(tmp_path: Path, place: Path) -> OtherFiles:
    folder = JobFolder(DirectoryStore(tmp_path / "store"), "job")
    Path(folder.logs_dir).mkdir(parents=True)
    return OtherFiles(folder, "000000", place, folder.log_path("000000", "a"))


def test_other_files_are_named_below_the_folder_that_the_command_was_given(tmp_path: Path, place: Path) -> None:
    part = place / "1-4"
    for name in ("beauty/f_1.png", "depth/f_1.png", "depth/f_2.png", ".hidden", "beauty/.part/f_2.png"):
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        (part / name).write_text(name)
    others = other_files(tmp_path, place)

    said = others.note({part / "beauty/f_1.png"}, [part])

    kept = tmp_path / "store/.longtake/job/aside/others"
    assert said == f"the renderer made files besides its outputs: depth/f_1.png, depth/f_2.png, kept in {kept}"
    assert sorted(path.name for path in kept.iterdir()) == ["000000.depth.f_1.png.0", "000000.depth.f_2.png.0"]
    # A store that was away meanwhile has the publication repeated.
    assert others.note({part / "beauty/f_1.png"}, [part]) == said
    assert (tmp_path / "store/.longtake/job/logs/000000.a.log").read_text() == f"longtake: {said}\n"


def test_two_tries_keep_both_files_of_one_name(tmp_path: Path, place: Path) -> None:
    for number in range(2):
        (place / "f_1.png").write_text(f"{number}")
        error = AttemptError("f_0001.png is missing")
        OtherFiles(JobFolder(DirectoryStore(tmp_path / "store"), "job"), "000000", place, "").blame(error, ())
        assert str(error).startswith("f_0001.png is missing; the renderer wrote f_1.png, kept in ")

    kept = tmp_path / "store/.longtake/job/aside/others"
    assert [path.read_text() for path in sorted(kept.iterdir())] == ["0", "1"]


@pytest.mark.parametrize(
    ("bound", "most", "kept"), [("_MOST_FILES", 3, 3), ("_MOST_BYTES", 25, 2), ("_MOST_FILES_OF_TRY", 4, 4)]
)
def test_what_is_kept_of_other_files_is_bounded(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, bound: str, most: int, kept: int
) -> None:
    monkeypatch.setattr(output_files, bound, most)
    for number in range(6):
        (place / f"{number}.png").write_bytes(bytes(10))

    said = other_files(tmp_path, place).note(())

    folder = tmp_path / "store/.longtake/job/aside/others"
    assert said.endswith(f"0.png, 1.png and 4 more, of which {kept} are kept: {folder} takes no more")
    assert len(list(folder.iterdir())) == kept


def test_a_failed_try_fails_for_its_own_reason_where_the_store_takes_nothing(tmp_path: Path, place: Path) -> None:
    (place / "f_1.png").write_text("picture")
    (tmp_path / "store/.longtake/job/aside").write_text("a file where the folder must be")
    error = AttemptError("f_0001.png is missing")

    other_files(tmp_path, place).blame(error, ())

    assert str(error) == "f_0001.png is missing"
