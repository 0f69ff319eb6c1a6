"""Mail about events goes out encrypted and with a login, again until the server takes it, and never unencrypted."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from support.farm import Farm, serving, until_state, worker_settings
from support.servers.certificates import known_certificate
from support.servers.mail import MailBox, mail_server
from support.servers.receiver import last_error, reports

from longtake import JobFailedError, JobState
from longtake.models.notify import Receiver

pytestmark = pytest.mark.integration

LOGIN = "ada%40example.com:s%3Ae%40cret"


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MailBox]:
    """A mail server whose certificate is trusted."""
    made = known_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.certificate))
    with mail_server(made.certificate, made.key) as box:
        yield box


def settings(farm: Farm, url: str, **others: object) -> Any:
    mail = {
        "smtp_url": SecretStr(url),
        "mail_to": ("@Example.com", "boss@studio.example"),
        "mail_from": "farm@example.com",
    }
    return worker_settings(farm.task_queue, farm.store, slots=1).model_copy(update={**mail, **others})


def notify(*addresses: str) -> dict[str, Any]:
    return {"notify": (Receiver(email=addresses, on=("finished", "failed")),)}


async def test_a_mail_tells_in_words_how_a_job_ended(bare: Farm, box: MailBox) -> None:
    box.answers.extend(["451 later", "554 never"])
    url = f"smtp://{LOGIN}@127.0.0.1:{box.port}"
    async with serving(bare.client, settings(bare, url, web_url="https://farm.example.com/")):
        job = await bare.submit(bare.job(chunks=1, **notify("ada@example.com", "boss@studio.example")))
        await until_state(job, JobState.COMPLETED)
        (report,) = await reports(bare.client, job.id)

    assert report.deliveries[0].tries == 3, "also what servers call final is tried for a day: somebody may mend it"
    (mail,) = box.mails
    assert mail["Subject"] == "test is finished"
    assert mail["From"] == "farm@example.com"
    assert box.recipients == [["ada@example.com", "boss@studio.example"]]
    assert mail["Message-ID"].startswith("<msg_")
    assert mail["Auto-Submitted"] == "auto-generated"
    text = mail.get_content()
    assert f"test ({job.id}) is finished." in text
    assert "chunks: 1 of 1, failed: 0" in text
    assert f"https://farm.example.com/jobs/{job.id}" in text
    assert box.secure == [True]


async def test_names_and_errors_of_a_job_make_no_headers(bare: Farm, box: MailBox) -> None:
    script = "printf 'no\\r\\nBcc: eve@example.org\\r\\n\\r\\nhello\\n' >&2; exit 7"
    url = f"smtp://{LOGIN}@127.0.0.1:{box.port}"
    async with serving(bare.client, settings(bare, url)):
        fields: dict[str, Any] = {"name": "Bcc: eve@example.org", "command": ("sh", "-c", script, "{output}")}
        job = await bare.submit(bare.job(chunks=1, **fields, **notify("ada@example.com")))
        await until_state(job, JobState.FAILED)
        await reports(bare.client, job.id)

    (mail,) = box.mails
    assert box.recipients == [["ada@example.com"]]
    assert mail["Bcc"] is None
    assert mail["Subject"] == "Bcc: eve@example.org has failed"
    assert "chunk 0 (frames 0): " in mail.get_content()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("smtp://ada%40example.com:mistaken@127.0.0.1:{}", "has answered 535"),
        ("smtps://127.0.0.1:{}", "cannot be used: "),
        ("smtp://127.0.0.1:1", "the mail server 127.0.0.1:1 cannot be used: Connection refused"),
    ],
    ids=["wrong password", "no TLS from the start", "away"],
)
async def test_a_mail_that_cannot_be_sent_is_told_without_the_password(
    bare: Farm, box: MailBox, url: str, sentence: str
) -> None:
    async with serving(bare.client, settings(bare, url.format(box.port))):
        job = await bare.submit(bare.job(chunks=1, **notify("ada@example.com")))
        await until_state(job, JobState.COMPLETED)
        error = await last_error(bare.client, job.id)

    assert sentence in error
    assert "mistaken" not in error
    assert box.mails == []


async def test_no_password_and_no_mail_goes_out_unencrypted(bare: Farm) -> None:
    """A server that offers no TLS may be somebody between."""
    with mail_server(None) as box:
        async with serving(bare.client, settings(bare, f"smtp://{LOGIN}@127.0.0.1:{box.port}")):
            job = await bare.submit(bare.job(chunks=1, **notify("ada@example.com")))
            await until_state(job, JobState.COMPLETED)
            error = await last_error(bare.client, job.id)
        assert "STARTTLS extension not supported" in error
        assert box.mails == []
        async with serving(bare.client, settings(bare, f"smtp://127.0.0.1:{box.port}?tls=none")):
            await reports(bare.client, job.id)
    assert len(box.mails) == 1
    assert box.secure == [False]


async def test_nobody_is_mailed_whom_the_farm_does_not_name(bare: Farm, box: MailBox) -> None:
    async with serving(bare.client, settings(bare, f"smtp://{LOGIN}@127.0.0.1:{box.port}")):
        for address in ("eve@example.org", "ada@example.com.example.org", "ada@sub.example.com"):
            job = await bare.submit(bare.job(chunks=1, **notify("ada@example.com", address)))
            with pytest.raises(
                JobFailedError, match=f"notify\\[0\\].email: {address} may not be mailed to by this farm"
            ):
                await job.result()
            await reports(bare.client, job.id)
    assert box.mails == []
