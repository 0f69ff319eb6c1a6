"""Google identity tokens: where they come from, how long they are kept, and what is said where there are none."""

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.remote.google_tokens import MetadataServer, claims_of, metadata_server

from activities.errors import AttemptError, ThrottledError
from activities.remote.google_auth import IdTokens
from ports import find_free_port

AUDIENCE = "https://render-abc.a.run.app"


@pytest_asyncio.fixture
async def google(tmp_path: Path) -> AsyncIterator[MetadataServer]:
    async with metadata_server(tmp_path) as server:
        yield server


@pytest.fixture
def tokens(google: MetadataServer) -> IdTokens:
    return IdTokens(google.environ)


@pytest.mark.parametrize("audience", [AUDIENCE, f"{AUDIENCE}/", f"{AUDIENCE}/render?a=b%20c&d=é"])
async def test_the_audience_is_the_url_to_the_letter(google: MetadataServer, tokens: IdTokens, audience: str) -> None:
    token = await tokens.get_token(audience)

    assert google.audiences == [audience]
    assert claims_of(token)["aud"] == audience


async def test_a_token_is_fetched_once_for_all_who_ask_and_once_for_each_audience(
    google: MetadataServer, tokens: IdTokens
) -> None:
    many = await asyncio.gather(*(tokens.get_token(AUDIENCE) for _ in range(50)))
    other = await tokens.get_token(f"{AUDIENCE}/")

    assert len(set(many)) == 1
    assert other != many[0]
    assert google.audiences == [AUDIENCE, f"{AUDIENCE}/"]


async def test_a_token_is_kept_until_shortly_before_it_expires(google: MetadataServer, tokens: IdTokens) -> None:
    google.lifetime_seconds = 200
    about_to_expire = await tokens.get_token(AUDIENCE)
    google.lifetime_seconds = 300

    renewed = await tokens.get_token(AUDIENCE)

    assert renewed != about_to_expire
    assert await tokens.get_token(AUDIENCE) == renewed
    assert len(google.audiences) == 2


async def test_a_token_that_lasts_no_time_at_all_is_used_all_the_same(google: MetadataServer, tokens: IdTokens) -> None:
    google.lifetime_seconds = 1

    assert await tokens.get_token(AUDIENCE)


async def test_a_refused_token_is_replaced_once_however_many_were_refused(
    google: MetadataServer, tokens: IdTokens
) -> None:
    first = await tokens.get_token(AUDIENCE)

    renewed = await asyncio.gather(*(tokens.get_token(AUDIENCE, refused=first) for _ in range(20)))

    assert len(set(renewed)) == 1
    assert renewed[0] != first
    assert len(google.audiences) == 2


async def test_a_cancel_does_not_wait_for_the_fetch_and_the_next_one_asks_anew(
    google: MetadataServer, tokens: IdTokens
) -> None:
    google.may_answer.clear()
    fetch = asyncio.create_task(tokens.get_token(AUDIENCE))
    waiter = asyncio.create_task(tokens.get_token(AUDIENCE))
    await asyncio.wait_for(google.asked.wait(), 60)

    fetch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(fetch, 5)
    google.may_answer.set()

    assert claims_of(await waiter)["aud"] == AUDIENCE


async def test_fetches_that_are_cancelled_leave_no_thread_and_no_connection(
    google: MetadataServer, tmp_path: Path
) -> None:
    """More of them than there are threads, by a server that answers none."""
    environment = dict(google.environ)
    tokens = IdTokens(environment)
    google.may_answer.clear()
    for number in range(5):
        google.asked.clear()
        fetch = asyncio.create_task(tokens.get_token(f"{AUDIENCE}/{number}"))
        await asyncio.wait_for(google.asked.wait(), 60)
        fetch.cancel()
        await asyncio.wait([fetch])
    await asyncio.wait_for(google.all_hung_up.wait(), 10)

    (tmp_path / "other").mkdir()
    async with metadata_server(tmp_path / "other") as answering:
        environment.update(answering.environ)
        assert await asyncio.wait_for(tokens.get_token(AUDIENCE), 10)


@pytest.mark.parametrize("by", ["metadata server", "key file"])
async def test_a_fetch_takes_bounded_time_and_costs_no_try(google: MetadataServer, by: str) -> None:
    google.may_answer.clear()
    environment = {"GOOGLE_APPLICATION_CREDENTIALS": str(google.key_file())} if by == "key file" else google.environ

    with pytest.raises(ThrottledError, match=r"gives no identity token .*within 0\.5 s"):
        await IdTokens(environment, most_seconds=0.5).get_token(AUDIENCE)


async def test_no_proxy_sees_what_the_metadata_server_says(
    google: MetadataServer, tokens: IdTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{find_free_port()}")
    monkeypatch.setenv("no_proxy", "")

    assert await tokens.get_token(AUDIENCE)


async def test_a_metadata_server_that_is_away_costs_no_try() -> None:
    with pytest.raises(ThrottledError, match="gives no identity token: All connection attempts failed"):
        await IdTokens({"GCE_METADATA_HOST": f"127.0.0.1:{find_free_port()}"}).get_token(AUDIENCE)


async def test_a_metadata_server_that_is_busy_costs_no_try(google: MetadataServer, tokens: IdTokens) -> None:
    google.failure = 503, {}

    with pytest.raises(ThrottledError, match="HTTP 503"):
        await tokens.get_token(AUDIENCE)
    google.failure = None
    assert await tokens.get_token(AUDIENCE)


@pytest.mark.parametrize(
    ("status", "answer", "says"),
    [
        (404, {}, r"HTTP 404; give this host a service account with roles/run\.invoker"),
        (200, {"sign": "in, please"}, "check GCE_METADATA_HOST and the key file"),
        (302, {}, "HTTP 302"),
    ],
    ids=["no service account", "no token", "a redirect is not followed"],
)
async def test_a_metadata_server_that_will_never_give_a_token_fails_the_job_with_the_fix(
    google: MetadataServer, tokens: IdTokens, status: int, answer: dict[str, str], says: str
) -> None:
    google.failure = status, answer

    with pytest.raises(AttemptError, match=says) as no:
        await tokens.get_token(AUDIENCE)
    assert no.value.fatal


async def test_a_host_outside_of_google_cloud_is_told_what_to_do() -> None:
    # No name may end in .invalid (RFC 6761); a resolver without a network cannot know that.
    with pytest.raises((AttemptError, ThrottledError)) as no:
        await IdTokens({"GCE_METADATA_HOST": "metadata.invalid"}).get_token(AUDIENCE)
    if isinstance(no.value, AttemptError):
        assert no.value.fatal
        assert "set GOOGLE_APPLICATION_CREDENTIALS" in str(no.value)


def by_key(path: Path) -> IdTokens:
    return IdTokens({"GOOGLE_APPLICATION_CREDENTIALS": str(path)})


async def test_a_key_file_signs_for_the_audience_and_its_token_is_kept(google: MetadataServer) -> None:
    tokens = by_key(google.key_file())

    token = await tokens.get_token(f"{AUDIENCE}/")

    assert claims_of(token)["aud"] == f"{AUDIENCE}/"
    (assertion,) = google.assertions
    assert assertion["iss"] == "worker@test.iam.gserviceaccount.com"
    assert await tokens.get_token(f"{AUDIENCE}/") == token
    assert len(google.assertions) == 1


async def test_a_cancel_does_not_wait_for_google(google: MetadataServer) -> None:
    google.may_answer.clear()
    fetch = asyncio.create_task(by_key(google.key_file()).get_token(AUDIENCE))
    await asyncio.wait_for(google.asked.wait(), 60)

    fetch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(fetch, 5)
    google.may_answer.set()


async def test_a_key_that_google_refuses_is_not_tried_again(google: MetadataServer) -> None:
    google.failure = 400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}

    with pytest.raises(AttemptError, match=r"invalid_grant: Invalid JWT Signature\.; make a new key") as no:
        await by_key(google.key_file()).get_token(AUDIENCE)
    assert no.value.fatal


async def test_google_that_cannot_be_reached_costs_no_try(google: MetadataServer) -> None:
    key_file = google.key_file(token_uri=f"http://127.0.0.1:{find_free_port()}/token")

    with pytest.raises(ThrottledError, match=r"Google gives no identity token for the key .*: All connection attempts"):
        await by_key(key_file).get_token(AUDIENCE)


async def test_google_that_has_no_name_here_costs_no_try(google: MetadataServer) -> None:
    with pytest.raises(ThrottledError, match="Google gives no identity token for the key"):
        await by_key(google.key_file(token_uri="http://oauth2.invalid/token")).get_token(AUDIENCE)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_google_that_is_busy_is_asked_once_and_costs_no_try(google: MetadataServer, status: int) -> None:
    google.failure = status, {"error": "internal_failure"}

    with pytest.raises(ThrottledError, match=f"HTTP {status}"):
        await by_key(google.key_file()).get_token(AUDIENCE)
    assert len(google.assertions) == 1


async def test_the_way_to_google_leads_through_the_proxy(
    google: MetadataServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://{google.address}")
    monkeypatch.setenv("no_proxy", "")

    assert await by_key(google.key_file(token_uri="http://oauth2.invalid/token")).get_token(AUDIENCE)
    assert len(google.assertions) == 1


async def test_google_is_known_by_its_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with metadata_server(tmp_path, tls=True) as google:
        with pytest.raises(ThrottledError, match="certificate verify failed"):
            await by_key(google.key_file()).get_token(AUDIENCE)
        assert not google.assertions

        monkeypatch.setenv("SSL_CERT_FILE", str(google.certificate))
        assert await by_key(google.key_file()).get_token(AUDIENCE)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"id_token": "no.TOKEN"}, "what should give identity tokens gave something else"),
        ({"id_token": "no.JSON.TOKEN"}, "what should give identity tokens gave something else"),
        ({"access_token": "TOKEN"}, "No ID token in response"),
    ],
)
async def test_an_answer_without_an_identity_token_is_not_quoted(
    google: MetadataServer, answer: dict[str, str], said: str
) -> None:
    google.failure = 200, answer

    with pytest.raises(AttemptError, match=said) as no:
        await by_key(google.key_file()).get_token(AUDIENCE)

    assert no.value.fatal
    # As a log would show it, with its causes.
    assert "TOKEN" not in "".join(traceback.format_exception(no.value))


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "authorized_user"},
        {"type": "impersonated_service_account"},
        {"type": None},
        {"private_key": "-----BEGIN SECRET"},
        {"client_email": None},
    ],
    ids=["of a person", "of a person in its place", "of nobody", "broken key", "incomplete"],
)
async def test_a_file_that_is_no_key_is_named_and_never_quoted(
    google: MetadataServer, changes: dict[str, str | None]
) -> None:
    key_file = google.key_file(**changes)

    with pytest.raises(AttemptError) as no:
        await by_key(key_file).get_token(AUDIENCE)

    assert no.value.fatal
    assert f"{key_file}: it is no key of a service account; name the JSON key file" in str(no.value)
    assert "SECRET" not in "".join(traceback.format_exception(no.value))


async def test_a_key_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(AttemptError, match=r"nowhere\.json: No such file or directory; name the JSON key file"):
        await by_key(tmp_path / "nowhere.json").get_token(AUDIENCE)


async def test_no_log_has_a_token_or_a_key(google: MetadataServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key_file = google.key_file()

    fetched = [await IdTokens(google.environ).get_token(AUDIENCE), await by_key(key_file).get_token(AUDIENCE)]

    assert not [token for token in fetched if token in caplog.text]
    assert "PRIVATE KEY" not in caplog.text
