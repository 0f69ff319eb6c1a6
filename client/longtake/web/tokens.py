"""Keep the tokens of those who may ask a web server: a file with the digest of each, never the token itself."""

import hashlib
import os
import re
import secrets
import stat
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from longtake.errors import BadJobError, LongtakeError
from longtake.text import escape_text

# What a token begins with, so that scanners for secrets know one.
_PREFIX = "ltk_"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}", re.ASCII)
_LINE = re.compile(rf"({_NAME.pattern})\s+(look|steer|submit)\s+sha256:([0-9a-f]{{64}})", re.ASCII)
_HEAD = "# Made by `longtake web token`: a name, what it may do, and the SHA-256 of its token.\n"

_MOST_BYTES = 1 << 20

# How long a token may still be good that was removed from the file.
_LOOK_SECONDS = 1.0


class Role(StrEnum):
    """What somebody may do; each role may do what those before it may."""

    LOOK = "look"
    STEER = "steer"
    SUBMIT = "submit"

    @property
    def can(self) -> tuple["Role", ...]:
        """All that this role may do."""
        order = list(Role)
        return tuple(order[: order.index(self) + 1])


@dataclass(frozen=True)
class Caller:
    """Somebody who asks.

    Args:
        name: Name, empty where nobody had to say it.
        role: What they may do.
    """

    name: str
    role: Role


def make_token() -> str:
    """Make a token of 256 random bits, which nobody guesses: a plain digest of it can be kept."""
    return f"{_PREFIX}{secrets.token_urlsafe(32)}"


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


class TokenFile:
    """Read and write a file of tokens.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._callers: dict[str, Caller] = {}
        self._looked_at = float("-inf")
        self._seen: tuple[int, int, int] | None = None

    def find(self, token: str) -> Caller | None:
        """Return whom a token belongs to; None if it is none of the file. The file may be changed meanwhile.

        Raises:
            LongtakeError: The file cannot be read; nobody is let in then.
        """
        if time.monotonic() - self._looked_at >= _LOOK_SECONDS:
            self.load()
        # By digests, whose comparison tells nothing of a token.
        return self._callers.get(_digest(token))

    def load(self) -> int:
        """Read the file if it has changed; return the number of tokens.

        Raises:
            LongtakeError: It cannot be read, others may write to it, or a line is no token's.
        """
        found = self._stat()
        seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        if seen != self._seen:
            self._callers = {digest: Caller(name, role) for name, role, digest in self._read_lines()}
            self._seen = seen
        self._looked_at = time.monotonic()
        return len(self._callers)

    def _stat(self) -> os.stat_result:
        try:
            found = self.path.stat()
        except OSError as error:
            self._callers, self._seen = {}, None
            raise LongtakeError(
                f"--token-file: {self.path} cannot be read ({error.strerror}); make a token with `longtake web token "
                "add NAME --role look --token-file FILE`"
            ) from error
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST_BYTES:
            raise LongtakeError(f"--token-file: {self.path} is no file of tokens; name one")
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise LongtakeError(f"--token-file: others may write to {self.path}; chmod 600 {self.path}")
        return found

    def _read_lines(self) -> list[tuple[str, Role, str]]:
        lines = []
        for number, line in enumerate(self.path.read_text(errors="replace").splitlines(), 1):
            if not (text := line.strip()) or text.startswith("#"):
                continue
            match = _LINE.fullmatch(text)
            if match is None:
                raise LongtakeError(
                    f"--token-file: line {number} of {self.path} is no token's (name, role, sha256:digest); mend it"
                )
            lines.append((match[1], Role(match[2]), match[3]))
        return lines

    def add(self, name: str, role: Role) -> str:
        """Add a token and return it: nothing else will ever tell it.

        Raises:
            BadJobError: The name cannot be one.
            LongtakeError: The file cannot be read or written.
        """
        if not _NAME.fullmatch(name):
            raise BadJobError(
                f"name: '{escape_text(name)}' is none; use up to 64 letters, digits and . _ @ + -, a letter first"
            )
        token = make_token()
        lines = self._read_lines() if self.path.exists() and self._stat() else []
        self._write([*lines, (name, role, _digest(token))])
        return token

    def remove(self, name: str) -> int:
        """Remove all tokens of a name; return their number.

        Raises:
            LongtakeError: The file cannot be read or written.
        """
        self._stat()
        lines = self._read_lines()
        kept = [line for line in lines if line[0] != name]
        if len(kept) < len(lines):
            self._write(kept)
        return len(lines) - len(kept)

    def names(self) -> list[tuple[str, Role]]:
        """Return names and roles in the order of the file.

        Raises:
            LongtakeError: The file cannot be read.
        """
        self._stat()
        return [(name, role) for name, role, _ in self._read_lines()]

    def _write(self, lines: list[tuple[str, Role, str]]) -> None:
        text = _HEAD + "".join(f"{name} {role} sha256:{digest}\n" for name, role, digest in lines)
        partial = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        try:
            with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise LongtakeError(f"--token-file: {self.path} cannot be written ({error.strerror})") from error
