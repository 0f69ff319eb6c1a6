"""Sessions: one process a span that renders chunk after chunk, each asked for by a line on its standard input."""

import shlex
from collections.abc import Sequence

from longtake.models.backends import BackendKind
from longtake.models.job_fields import JobFields
from longtake.templates import JOB_PLACEHOLDERS, find_placeholders


def format_request(words: Sequence[str]) -> str:
    """Format the words of a chunk as the line that a session reads; words are quoted as for a POSIX shell."""
    return shlex.join(words) + "\n"


def check_session(job: JobFields) -> None:
    """Raise unless the process of a session can be started before a chunk is known, and chunks are lines.

    Raises:
        ValueError: `field: what is wrong; the fix`.
    """
    if job.session is None:
        return
    if not job.session or not job.session[0].strip():
        raise ValueError("session: is empty; write the program and its arguments")
    if any("\0" in word for word in job.session):
        raise ValueError("session: holds a NUL character; take it out")
    for word in job.session:
        find_placeholders(word, field="session", allowed=JOB_PLACEHOLDERS)
    if job.backend_kind is not BackendKind.LOCAL:
        raise ValueError("session: is for workers that render themselves; leave it out, or set backend to local")
    commands = {
        "command": job.command,
        **{f"chunks[{i}].command": one.command for i, one in enumerate(job.inline_chunks)},
    }
    for field, words in commands.items():
        if words is not None and any("\n" in word or "\r" in word for word in words):
            raise ValueError(f"{field}: holds a line break, and a session reads one line a chunk; take it out")
