"""Settings of notifications are read whole or refused in one sentence without their secrets; others are not told."""

import json
import re

import pytest

from activities.notify.mail import MailServer
from activities.notify.receivers import AllowedReceivers, read_farm_receivers, read_webhooks
from activities.settings import WorkerSettings
from longtake.errors import BadJobError, LongtakeError
from longtake.models.notify import JobEvent, Receiver, find_origin

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + "A" * 43 + "="


def settings(**variables: str) -> WorkerSettings:
    given = {f"LONGTAKE_{name.upper()}": text for name, text in variables.items()}
    return WorkerSettings.from_environ({"LONGTAKE_ROOTS": "/tmp", **given}, dev=True)


def test_keys_are_read_by_origin_with_two_for_a_change() -> None:
    keys = read_webhooks(f"https://Example.com={SECRET} http://127.0.0.1:8080/={SECRET},{OTHER}")

    assert {origin: len(found) for origin, found in keys.items()} == {
        "https://example.com:443": 1,
        "http://127.0.0.1:8080": 2,
    }


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://example.com/hook?x=1", "https://example.com:443"),
        ("https://EXAMPLE.com.:443", "https://example.com:443"),
        ("http://[::1]:80/", "http://[::1]:80"),
    ],
)
def test_an_origin_has_one_spelling(url: str, origin: str) -> None:
    assert find_origin(url) == origin


REFUSED = {
    "no secret": (
        {"webhooks": "https://example.com"},
        "LONGTAKE_WEBHOOKS has no secret of 24 to 64 bytes for ht",
    ),
    "short": ({"webhooks": "https://example.com=whsec_aHVzaA=="}, "LONGTAKE_WEBHOOKS has no secret of 24 to 64 bytes"),
    "no prefix": ({"webhooks": f"https://example.com={SECRET[6:]}"}, "LONGTAKE_WEBHOOKS has no secret"),
    "no URL": ({"webhooks": f"example.com={SECRET}"}, "LONGTAKE_WEBHOOKS has an entry that begins with no URL"),
    "a path": (
        {"webhooks": f"https://example.com/x={SECRET}"},
        "LONGTAKE_WEBHOOKS has more than scheme, host and port",
    ),
    "no network": (
        {"notify_networks": "10.0.0.1/8"},
        "LONGTAKE_NOTIFY_NETWORKS has a network that is none: 10.0.0.1/8",
    ),
    "no list": ({"notify": "{"}, "LONGTAKE_NOTIFY is no list of receivers in JSON"),
    "a typing error": ({"notify": '[{"web": "x"}]'}, "LONGTAKE_NOTIFY is no list of receivers in JSON"),
    "not allowed": (
        {"notify": '[{"webhook": "https://example.com/hush"}]'},
        "LONGTAKE_NOTIFY [0].webhook: https://example.com:443 may not be told by this farm",
    ),
    "no mail server": ({"smtp_url": "mail.example.com:hush"}, "LONGTAKE_SMTP_URL is no mail server; write smtp://"),
    "odd option": ({"smtp_url": "smtp://a.b?starttls=hush"}, "LONGTAKE_SMTP_URL is no mail server"),
    "no sender": ({"smtp_url": "smtp://user:hush@a.b"}, "LONGTAKE_SMTP_URL has no sender; set LONGTAKE_MAIL_FROM"),
    "in clear": ({"smtp_url": "smtp://a%40b.c:hush@a.b?tls=none"}, "LONGTAKE_SMTP_URL would send a password unencrypt"),
    "a pattern": ({"notify_commands": "send*"}, "LONGTAKE_NOTIFY_COMMANDS"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_setting_that_is_off_ends_the_worker_with_a_sentence_without_secrets(name: str) -> None:
    variables, sentence = REFUSED[name]
    with pytest.raises(LongtakeError, match=f"^{re.escape(sentence)}") as refused:
        settings(**variables)

    assert "hush" not in str(refused.value)
    assert SECRET[6:] not in str(refused.value)


def test_settings_show_no_secret() -> None:
    told = settings(
        webhooks=f"https://example.com={SECRET}",
        notify='[{"webhook": "https://example.com/hush", "on": ["failed", "started"]}]',
        smtp_url="smtps://a%40b.c:hush@mail.example.com",
    )

    assert "hush" not in repr(told)
    assert SECRET[6:] not in repr(told)
    assert told.receivers.farm_events == (JobEvent.STARTED, JobEvent.FAILED)
    mail = told.receivers.mail
    assert mail is not None
    assert (mail.host, mail.port, mail.sender, mail.tls) == ("mail.example.com", 465, "a@b.c", "tls")
    assert "hush" not in repr(mail)


def test_receivers_of_the_farm_are_named_by_digests_that_stay() -> None:
    text = json.dumps([{"email": "a@b.c"}, {"email": ["a@b.c", "d@e.f"], "on": "failed"}])
    farm = AllowedReceivers(farm=read_farm_receivers(text), mail=MailServer("a.b", 25, "a@b.c"), mail_to=("*",))

    assert read_farm_receivers(text).keys() == farm.farm.keys()
    assert len(farm.find_digests(JobEvent.FAILED)) == 2
    assert len(farm.find_digests(JobEvent.FINISHED)) == 1
    assert farm.find_digests(JobEvent.STARTED) == ()


@pytest.mark.parametrize(
    "url", ["https://example.com:8443/x", "http://example.com/x", "https://example.com.evil.org/x"]
)
def test_another_port_scheme_or_host_is_another_receiver(url: str) -> None:
    allowed = AllowedReceivers(keys=read_webhooks(f"https://example.com={SECRET}"))
    allowed.check(Receiver(webhook="https://example.com/any?path=1"), "notify[0]")

    with pytest.raises(BadJobError, match=r"^notify\[0\].webhook: .* may not be told by this farm"):
        allowed.check_all([Receiver(webhook=url)])


def test_without_settings_nobody_is_told() -> None:
    for receiver in (Receiver(webhook="https://a.b/c"), Receiver(email=("a@b.c",)), Receiver(command=("true",))):
        with pytest.raises(BadJobError, match=r"or take it out$"):
            settings().receivers.check(receiver, "notify[0]")
