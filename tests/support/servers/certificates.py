"""Keys and certificates that last as long as the tests."""

import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate for the loopback interface, and its private key; both PEM files."""

    certificate: Path
    key: Path


def known_certificate(folder: Path) -> Certificate:
    """Write the one certificate of this process into a folder, where any will do: a new one takes a moment."""
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    for path, content in zip((made.certificate, made.key), _contents(), strict=True):
        path.write_bytes(content)
    return made


@cache
def _contents() -> tuple[bytes, bytes]:
    with TemporaryDirectory() as folder:
        made = make_certificate(Path(folder))
        return made.certificate.read_bytes(), made.key.read_bytes()


def make_certificate(folder: Path) -> Certificate:
    """Make one with the `openssl` program; its key is an RSA key, as those of Google's service accounts are."""
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(made.key), "-out", str(made.certificate)]
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=60)
    except FileNotFoundError:
        raise AssertionError("the `openssl` program is not installed; install the package openssl") from None
    return made
