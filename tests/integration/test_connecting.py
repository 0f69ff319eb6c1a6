"""A client and a worker that cannot connect say why in one sentence with the setting that mends it."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.processes.forks import start_fork, until_fork_ends
from support.servers.certificates import known_certificate

import worker
from longtake.__main__ import main

pytestmark = pytest.mark.integration

PROGRAMS = {
    "client": (main, ["longtake", "list", "--limit", "1"]),
    "doctor": (main, ["longtake", "doctor"]),
    "worker": (worker.main, ["worker.py"]),
}
EXIT_CODES = {"client": 5, "doctor": 5, "worker": 2}

# Settings of Temporal's client, and what must be said of them.
REFUSALS: dict[str, tuple[dict[str, str], str]] = {
    "no certificate file": (
        {"TEMPORAL_TLS_CLIENT_CERT_PATH": "/nowhere/c.pem", "TEMPORAL_TLS_CLIENT_KEY_PATH": "/nowhere/k.pem"},
        "/nowhere/c.pem, which Temporal's configuration names, cannot be read (No such file or directory); put the",
    ),
    "no authority's file": (
        {"TEMPORAL_TLS_SERVER_CA_CERT_PATH": "/nowhere/ca.pem"},
        "/nowhere/ca.pem, which Temporal's configuration names, cannot be read",
    ),
    "a folder": (
        {"TEMPORAL_TLS_CLIENT_CERT_PATH": "/", "TEMPORAL_TLS_CLIENT_KEY_PATH": "/"},
        "/, which Temporal's configuration names, cannot be read (Is a directory)",
    ),
    "no PEM": (
        {"TEMPORAL_TLS_CLIENT_CERT_DATA": "x", "TEMPORAL_TLS_CLIENT_KEY_DATA": "x", "TEMPORAL_TLS": "true"},
        "the client certificate or its key is no PEM text; mend TEMPORAL_TLS_CLIENT_CERT_PATH",
    ),
    "a key alone": (
        {"TEMPORAL_TLS_CLIENT_KEY_DATA": "x", "TEMPORAL_TLS": "true"},
        "a client certificate needs its key, and one of both is missing",
    ),
    "an API key without TLS": (
        {"TEMPORAL_API_KEY": "k"},
        "speaks no TLS, and this client was told to: an API key switches TLS on; set TEMPORAL_TLS=false",
    ),
    "TLS without TLS": ({"TEMPORAL_TLS": "true"}, "speaks no TLS, and this client was told to: set TEMPORAL_TLS=false"),
    "no port": ({"TEMPORAL_ADDRESS": "two words:1"}, "two words:1 is no address; write TEMPORAL_ADDRESS as host:port"),
    "no profile": (
        {"TEMPORAL_PROFILE": "nobody"},
        "configuration cannot be read: Profile 'nobody' not found",
    ),
}


async def run(program: str, store: Path, environment: dict[str, str]) -> tuple[int, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "LONGTAKE_"))}
    settings = {"LONGTAKE_ROOTS": str(store), "LONGTAKE_ALLOWED_COMMANDS": "sh", "COLUMNS": "1000"}
    output = store.parent / "output"
    process = await start_fork(*PROGRAMS[program], clean | settings | environment, output, output)
    try:
        code = await until_fork_ends(process, 60)
    finally:
        process.kill()
    return code, output.read_text()


def assert_says(program: str, code: int, text: str, sentence: str) -> None:
    (line,) = [line for line in text.splitlines() if sentence in line]
    assert code == EXIT_CODES[program], text
    assert "Traceback" not in text
    assert "tonic" not in text
    if program != "doctor":
        assert [line] == text.splitlines(), "one sentence and nothing else"


@pytest.mark.parametrize(
    ("program", "name"),
    [
        *(("client", name) for name in REFUSALS),
        *((program, name) for program in ("doctor", "worker") for name in ("no certificate file", "a key alone")),
    ],
)
async def test_what_is_wrong_with_the_connection_is_one_sentence(
    server: str, store: Path, program: str, name: str
) -> None:
    environment, sentence = REFUSALS[name]

    code, text = await run(program, store, {"TEMPORAL_ADDRESS": server} | environment)

    assert_says(program, code, text, sentence)


@pytest.mark.parametrize("program", ["client", "worker"])
async def test_a_namespace_that_is_not_there_is_one_sentence(server: str, store: Path, program: str) -> None:
    code, text = await run(program, store, {"TEMPORAL_ADDRESS": server, "TEMPORAL_NAMESPACE": "nowhere"})

    assert_says(program, code, text, "there is no namespace nowhere; create it (`temporal operator namespace create")


@pytest_asyncio.fixture
async def tls_server(tmp_path: Path) -> AsyncIterator[str]:
    """Address of a server that speaks TLS with a certificate that nobody knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = known_certificate(tmp_path)
    context.load_cert_chain(certificate.certificate, certificate.key)

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("tls", "sentence"),
    [
        ("true", "is not trusted or is for another name; set TEMPORAL_TLS_SERVER_CA_CERT_PATH"),
        ("false", "if it is a Temporal server with TLS, set TEMPORAL_TLS=true"),
    ],
)
async def test_a_server_with_tls_is_told_from_one_that_is_away(
    tls_server: str, store: Path, tls: str, sentence: str
) -> None:
    code, text = await run("client", store, {"TEMPORAL_ADDRESS": tls_server, "TEMPORAL_TLS": tls})

    assert_says("client", code, text, sentence)
