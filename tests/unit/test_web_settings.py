"""What the web server must be told before others than its own host may reach it."""

from pathlib import Path
from typing import Any

import pytest

from longtake.errors import BadJobError, LongtakeError
from longtake.web.settings import LOOPBACK_HOSTS, WebSettings, is_loopback, make_settings
from longtake.web.tokens import Role, TokenFile


def make(**options: Any) -> WebSettings:
    usual: dict[str, Any] = {
        "listen": "127.0.0.1", "token_file": None, "trusted_header": None, "trusted_peers": (), "trusted_role": "look",
        "allowed_hosts": (), "roots": (), "ui": None,
    }  # fmt: skip
    return make_settings(**{**usual, **options})


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    TokenFile(tmp_path / "tokens").add("anna", Role.LOOK)
    return tmp_path / "tokens"


def test_loopback_needs_nothing() -> None:
    assert make() == WebSettings()
    assert make(listen="::1").hosts == LOOPBACK_HOSTS


@pytest.mark.parametrize("listen", ["0.0.0.0", "::", "192.0.2.1", "farm.example.org", "127.0.0.1.example.org", ""])
def test_beyond_loopback_it_must_be_told_who_may_ask(listen: str, tokens: Path) -> None:
    with pytest.raises(BadJobError, match="--listen: whoever reaches"):
        make(listen=listen)

    assert make(listen=listen, token_file=tokens).token_file == tokens
    assert make(listen=listen, trusted_header="X-User", trusted_peers=("10.0.0.1",)).trusted_role is Role.LOOK


def test_a_file_without_tokens_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(LongtakeError, match=r"cannot be read .*`longtake web token add"):
        make(token_file=tmp_path / "none")
    empty = tmp_path / "empty"
    empty.touch(0o600)
    with pytest.raises(BadJobError, match="has no token"):
        make(listen="0.0.0.0", token_file=empty)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"trusted_header": "X-User"}, "--trusted-header: needs --trusted-peer"),
        ({"trusted_peers": ("10.0.0.1",)}, "--trusted-header: needs --trusted-peer"),
        ({"trusted_header": "X User", "trusted_peers": ("10.0.0.1",)}, "--trusted-header: 'X User'"),
        ({"trusted_header": "X-User", "trusted_peers": ("proxy",)}, "--trusted-peer: 'proxy'"),
        ({"trusted_role": "root"}, "--trusted-role: is 'root'"),
        ({"allowed_hosts": ("farm.example.org:80",)}, "--allow-host: 'farm.example.org:80'"),
        ({"allowed_hosts": ("*",)}, "--allow-host: "),
        ({"job_sources": ("https://example.org/jobs",)}, "--job-source: 'https://example.org/jobs' is no place"),
        ({"job_sources": ("example.org",)}, "--job-source: 'example.org' is no place"),
        ({"job_sources": ("https://u:p@example.org",)}, "--job-source: "),
        ({"job_sources": ("https://example.org:99999",)}, "--job-source: "),
        ({"job_sources": ("https://*.example.org",)}, "--job-source: "),
        ({"job_sources": ("s3://",)}, "--job-source: 's3://' is no place"),
        ({"job_sources": ("/srv/jobs",)}, "--job-source: '/srv/jobs' is no place"),
        ({"job_networks": ("10.0.0.1/8",)}, "--job-network: has a network that is none"),
        ({"ui": "javascript:alert(1)"}, "--ui: "),
    ],
)
def test_what_cannot_be_is_one_sentence_that_names_the_option(options: dict[str, Any], field: str) -> None:
    with pytest.raises(BadJobError) as refused:
        make(**options)
    assert str(refused.value).startswith(field)


def test_names_are_added_to_those_of_loopback() -> None:
    assert make(allowed_hosts=("farm.example.org",)).hosts == (*LOOPBACK_HOSTS, "farm.example.org")


@pytest.mark.parametrize(
    ("host", "is_here"),
    [("localhost", True), ("127.9.9.9", True), ("::1", True), ("0.0.0.0", False), ("localhost.example.org", False)],
)
def test_loopback_is_an_address_of_this_host_alone(host: str, is_here: bool) -> None:
    assert is_loopback(host) is is_here
