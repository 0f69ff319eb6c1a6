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


def known_certificate(folder: Path, *, rsa: bool = False) -> Certificate:
    """Write the one certificate of this process into a folder, where any will do."""
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    for path, content in zip((made.certificate, made.key), _contents(rsa), strict=True):
        path.write_bytes(content)
    return made


@cache
def _contents(rsa: bool) -> tuple[bytes, bytes]:
    with TemporaryDirectory() as folder:
        made = make_certificate(Path(folder), rsa=rsa)
        return made.certificate.read_bytes(), made.key.read_bytes()


def make_certificate(folder: Path, *, rsa: bool = False) -> Certificate:
    """Make one with the `openssl` program.

    Args:
        folder: Where its two files go.
        rsa: Whether its key is an RSA key, as those of Google's service accounts are: that takes half a second.
    """
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    kind = ["rsa:2048"] if rsa else ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command = ["openssl", "req", "-x509", "-newkey", *kind, "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(made.key), "-out", str(made.certificate)]
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=60)
    except FileNotFoundError:
        raise AssertionError("the `openssl` program is not installed; install the package openssl") from None
    return made
