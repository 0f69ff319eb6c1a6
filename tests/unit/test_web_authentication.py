"""Who asks: by token, cookie or the header of a proxy; and who guesses."""

from pathlib import Path

import pytest

from longtake.web import authentication
from longtake.web.authentication import COOKIE, Authenticator, TooManyGuessesError
from longtake.web.settings import WebSettings
from longtake.web.tokens import Caller, Role, TokenFile

HERE = "192.0.2.7"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


@pytest.fixture
def token(path: Path) -> str:
    return TokenFile(path).add("anna", Role.STEER)


def test_on_loopback_nobody_need_say_who_they_are() -> None:
    assert Authenticator(WebSettings()).identify({}, {}, HERE) == Caller("", Role.SUBMIT)


def test_a_token_comes_in_a_header_or_in_the_cookie_of_a_session(path: Path, token: str) -> None:
    known = Authenticator(WebSettings(token_file=path))

    assert known.identify({"authorization": f"Bearer {token}"}, {}, HERE) == Caller("anna", Role.STEER)
    assert known.identify({"authorization": f"bearer  {token}"}, {}, HERE) == Caller("anna", Role.STEER)
    assert known.identify({}, {COOKIE: token}, HERE) == Caller("anna", Role.STEER)
    assert known.identify({}, {}, HERE) is None
    assert known.identify({"authorization": f"Basic {token}"}, {}, HERE) is None


def test_a_proxy_is_believed_and_nobody_who_pretends_to_be_one() -> None:
    settings = WebSettings(
        trusted_header="X-User", trusted_peers=("10.0.0.0/8", "2001:db8::1"), trusted_role=Role.STEER
    )
    known = Authenticator(settings)

    assert known.identify({"x-user": "anna"}, {}, "10.1.2.3") == Caller("anna", Role.STEER)
    assert known.identify({"x-user": "anna"}, {}, "2001:db8::1") == Caller("anna", Role.STEER)
    for peer in ("192.0.2.7", "2001:db8::2", "", "unix"):
        assert known.identify({"x-user": "anna"}, {}, peer) is None
    for name in ("", "  ", "a\nb", "\x1b[31m", "a" * 200):
        assert known.identify({"x-user": name}, {}, "10.1.2.3") is None


def test_behind_a_proxy_a_token_is_good_for_programs_too(path: Path, token: str) -> None:
    settings = WebSettings(token_file=path, trusted_header="X-User", trusted_peers=("10.0.0.1",))

    found = Authenticator(settings).identify({"authorization": f"Bearer {token}"}, {}, "10.0.0.1")

    assert found == Caller("anna", Role.STEER)


def test_who_guesses_is_not_listened_to_for_a_while(path: Path, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("longtake.web.authentication.time.monotonic", lambda: now)
    known = Authenticator(WebSettings(token_file=path))
    for guess in range(10):
        assert known.check(f"guess-{guess}", HERE) is None

    with pytest.raises(TooManyGuessesError, match="60 s"):
        known.check(token, HERE)
    # Others are not held up.
    assert known.check(token, "192.0.2.8") is not None
    now += 61
    assert known.check(token, HERE) is not None


def test_the_addresses_of_one_network_of_ipv6_guess_as_one(path: Path, token: str) -> None:
    known = Authenticator(WebSettings(token_file=path))
    for guess in range(10):
        known.check("wrong", f"2001:db8::{guess:x}")

    with pytest.raises(TooManyGuessesError):
        known.check(token, "2001:db8::ffff")
    assert known.check(token, "2001:db8:0:1::1") is not None


def test_those_who_guess_from_everywhere_fill_no_memory(
    path: Path, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "_MOST_ADDRESSES", 50)
    known = Authenticator(WebSettings(token_file=path))
    for guess in range(200):
        known.check("wrong", f"10.0.{guess}.1")

    assert len(known._guesses._wrong) == 50
    assert known.check(token, HERE) is not None
