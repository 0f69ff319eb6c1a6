"""Who is told is written in few ways, and each that is off is refused in one sentence with the fix."""

import pytest

from longtake.errors import BadJobError
from longtake.jobfile.loader import read_job
from longtake.jobfile.safe_yaml import load_yaml
from longtake.models.notify import DEFAULT_EVENTS, JobEvent, Notification, Receiver, make_sequence

JOB = {"frames": {"count": 1}, "command": ["render", "{output}"], "chunk_output": "a.txt"}


def test_receivers_are_read_from_yaml_where_on_is_a_key() -> None:
    text = """
    notify:
      - {webhook: "https://example.com/hook?x=1", on: [chunk_failed, started]}
      - email: ada@example.com
        on: failed
      - command: publish "shot 1"
    """
    given = load_yaml(text)
    assert isinstance(given, dict)

    webhook, mail, command = read_job({**JOB, **given}).notify

    assert webhook.on == (JobEvent.CHUNK_FAILED, JobEvent.STARTED)
    assert (mail.email, mail.on) == (("ada@example.com",), (JobEvent.FAILED,))
    assert (command.command, command.on) == (("publish", "shot 1"), DEFAULT_EVENTS)


REFUSED = {
    "an unknown event": ([{"webhook": "https://a.b/c", "on": ["finishd"]}], "notify[0].on: is 'finishd'; did you mean"),
    "no event": ([{"webhook": "https://a.b/c", "on": []}], "notify[0].on: has 0 entries"),
    "another scheme": ([{"webhook": "ftp://a.b/c"}], "notify[0].webhook: is 'ftp://a.b/c'; write a URL"),
    "a space": ([{"webhook": "https://a.b/c d"}], "notify[0].webhook: is 'https://a.b/c d'; write a URL"),
    "no port": ([{"webhook": "https://a.b:99999/c"}], "notify[0].webhook: is 'https://a.b:99999/c', which is no URL"),
    "a password": ([{"webhook": "https://u:hush@a.b/c"}], "notify[0].webhook: has a user, a password or a fragment"),
    "no address": ([{"email": ["a@b.c", "x"]}], "notify[0].email[1]: is 'x'; write an address"),
    "a header": ([{"email": "a@b.c\r\nBcc: x@y.z"}], "notify[0].email[0]: is"),
    "nothing": ([{}], "notify[0]: needs one of webhook, email and command"),
    "two kinds": (
        [{"webhook": "https://a.b/c", "email": "a@b.c"}],
        "notify[0]: needs one of webhook, email and command",
    ),
    "no words": ([{"command": []}], "notify[0]: has a command with an empty word"),
    "another key": ([{"web": 1}], "notify[0].web: is not a key of a job; did you mean webhook?"),
    "no list": ({"webhook": "https://a.b/c"}, "notify: is {'webhook'"),
    "too many": (11 * [{"email": "a@b.c"}], "notify: has 11 entries"),
    "a long command": ([{"command": ["x" * 5000]}], "notify[0].command: has more than 4,000 characters"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_receiver_that_is_none_is_refused_in_one_sentence(name: str) -> None:
    given, sentence = REFUSED[name]
    with pytest.raises(BadJobError) as refused:
        read_job({**JOB, "notify": given})

    assert str(refused.value).startswith(sentence)
    assert "hush" not in str(refused.value)


def test_what_a_receiver_is_called_holds_no_path() -> None:
    assert (
        Receiver(webhook="https://hooks.example.com/T0/B1?token=hush").label == "webhook https://hooks.example.com:443"
    )
    assert Receiver(command=("notify", "--token", "hush")).label == "command notify"


def test_who_is_told_is_no_part_of_a_job_s_work() -> None:
    told = read_job({**JOB, "notify": [{"email": "a@b.c"}]})

    assert told.digest() == read_job(JOB).digest()


def test_an_event_of_an_older_worker_has_the_number_of_its_time() -> None:
    old = {"id": "msg_1", "event": "finished", "at": "2026-11-29T10:15:00.123456Z", "status": {"id": "a"}}
    notification = Notification.model_validate(old)

    assert notification.sequence == 0
    assert make_sequence(notification.at) == 1795947300123456
