"""The account of renders: found by name or uid, or refused with one sentence before anything is started."""

import os
from collections.abc import Callable

import pytest

from longtake.errors import LongtakeError
from longtake.render_user import RenderUser, find_render_user

NOBODY = 65534


def as_account(uid: int, work: Callable[[], str]) -> str:
    """Return what a function says in a process of another account; in this one where that is not root's."""
    if os.getuid():
        return work()
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.write(writing, work().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        said = file.read()
    os.waitpid(pid, 0)
    return said


def refusal(text: str) -> str:
    try:
        return f"found {find_render_user(text)}"
    except LongtakeError as error:
        return str(error)


def test_it_is_not_set_by_default() -> None:
    assert find_render_user("") is None


@pytest.mark.parametrize("text", ["nobody", str(NOBODY)])
def test_an_account_is_found_by_name_and_by_uid(text: str) -> None:
    user = find_render_user(text)

    assert user is not None
    assert (user.name, user.uid) == ("nobody", NOBODY)
    assert user.gid in user.groups
    assert user.environment == {"HOME": user.home, "USER": "nobody", "LOGNAME": "nobody"}


def test_a_uid_need_have_no_account() -> None:
    assert find_render_user("54321") == RenderUser("54321", 54321, 54321, (), "/")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nobody-at-all", "there is no such account on this host; create it (`useradd --system nobody-at-all`)"),
        ("4294967295", "there is no such account on this host"),
        ("-1", "there is no such account on this host"),
        ("0", "which is root and may read everything; name another account"),
        ("root", "which is root and may read everything; name another account"),
    ],
)
def test_what_is_no_account_for_renders_is_refused(text: str, sentence: str) -> None:
    said = refusal(text)

    assert said.startswith(f"LONGTAKE_RENDER_USER is {text}, ")
    assert sentence in said


def test_a_process_that_may_not_switch_says_what_it_lacks() -> None:
    said = as_account(1, lambda: refusal("nobody"))

    assert "this process may not switch to it, because it lacks CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, " in said
    assert said.endswith("start the worker as root or with these capabilities, or leave the setting out")


def test_the_account_of_the_worker_itself_is_refused() -> None:
    assert "the account of this process itself" in as_account(NOBODY, lambda: refusal(str(os.getuid())))


@pytest.mark.parametrize(
    ("owner", "group", "mode", "may"),
    [
        (7, 1, 0o100, True),
        (7, 8, 0o077, False),
        (1, 8, 0o010, True),
        (1, 9, 0o010, True),
        (1, 9, 0o701, False),
        (1, 1, 0o001, True),
        (1, 1, 0o770, False),
    ],
)
def test_the_mode_of_a_folder_tells_whether_it_may_enter(owner: int, group: int, mode: int, may: bool) -> None:
    user = RenderUser("seven", 7, 8, (8, 9), "/")

    assert user.may_enter(os.stat_result((0o040000 | mode, 0, 0, 2, owner, group, 0, 0, 0, 0))) is may
