"""Tokens: made once, kept as digests, removed at once, and in a file that nobody else may write."""

import os
from pathlib import Path

import pytest

from longtake.errors import BadJobError, LongtakeError
from longtake.web import tokens
from longtake.web.tokens import Caller, Role, TokenFile, make_token


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "tokens")


@pytest.fixture(autouse=True)
def looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_LOOK_SECONDS", 0.0)


def test_a_token_is_good_for_its_name_and_role(file: TokenFile) -> None:
    token = file.add("anna", Role.STEER)

    assert file.find(token) == Caller("anna", Role.STEER)
    assert file.find(f"{token}x") is None
    assert file.find("") is None
    assert file.find("\ud800") is None


def test_the_file_holds_no_token_and_nobody_else_reads_it(file: TokenFile) -> None:
    token = file.add("anna", Role.LOOK)

    assert token not in file.path.read_text()
    assert token.removeprefix("ltk_") not in file.path.read_text()
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_tokens_are_long_and_never_the_same() -> None:
    assert len({make_token() for _ in range(100)}) == 100
    assert all(len(make_token()) >= 47 for _ in range(10))


def test_a_token_that_is_removed_is_good_no_more(file: TokenFile) -> None:
    kept, lost = file.add("anna", Role.STEER), file.add("ben", Role.SUBMIT)
    assert file.find(lost) == Caller("ben", Role.SUBMIT)

    assert file.remove("ben") == 1
    assert file.remove("ben") == 0

    assert file.find(lost) is None
    assert file.find(kept) is not None
    assert file.names() == [("anna", Role.STEER)]


def test_a_name_may_have_two_tokens_while_one_takes_the_place_of_the_other(file: TokenFile) -> None:
    both = [file.add("anna", Role.LOOK), file.add("anna", Role.LOOK)]

    assert all(file.find(token) == Caller("anna", Role.LOOK) for token in both)


@pytest.mark.parametrize("name", ["", "a b", "anna\nben submit", "#anna", "a" * 65, "ännchen", "\x1b[31m"])
def test_what_is_no_name_is_refused(file: TokenFile, name: str) -> None:
    with pytest.raises(BadJobError, match="name: "):
        file.add(name, Role.LOOK)
    assert not file.path.exists()


def test_a_file_that_others_may_write_lets_nobody_in(file: TokenFile) -> None:
    token = file.add("anna", Role.LOOK)
    os.chmod(file.path, 0o666)

    with pytest.raises(LongtakeError, match="others may write"):
        file.find(token)


@pytest.mark.parametrize("line", ["anna", "anna root sha256:" + "0" * 64, "anna look sha256:00", "\x00\xff"])
def test_a_line_that_is_no_tokens_is_told(file: TokenFile, line: str) -> None:
    file.path.write_text(f"# a comment\n\n{line}\n", encoding="latin-1")
    file.path.chmod(0o600)

    with pytest.raises(LongtakeError, match="line 3 of"):
        file.load()


def test_a_file_that_is_gone_lets_nobody_in(file: TokenFile) -> None:
    token = file.add("anna", Role.LOOK)
    assert file.find(token) is not None
    file.path.unlink()

    with pytest.raises(LongtakeError, match="cannot be read"):
        file.find(token)


def test_each_role_may_do_what_the_one_before_it_may() -> None:
    assert Role.LOOK.can == (Role.LOOK,)
    assert Role.STEER.can == (Role.LOOK, Role.STEER)
    assert Role.SUBMIT.can == tuple(Role)
