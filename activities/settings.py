"""What a worker is allowed and told to do: `LONGTAKE_*`, read once, here."""

import os
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from longtake.errors import LongtakeError
from longtake.names import DEFAULT_TASK_QUEUE
from longtake.roots import roots_from
from longtake.sentences import sentence


class WorkerSettings(BaseModel):
    """A worker's settings, each from the environment variable of its name: `slots` from `LONGTAKE_SLOTS`."""

    model_config = ConfigDict(frozen=True)

    task_queue: str = Field(default=DEFAULT_TASK_QUEUE, min_length=1, description="LONGTAKE_TASK_QUEUE")
    roots: tuple[Path, ...] = Field(description="LONGTAKE_ROOTS: folders that jobs may read and write, split by ':'")
    allowed_commands: tuple[str, ...] | None = Field(
        default=None, description="LONGTAKE_ALLOWED_COMMANDS: programs that jobs may run, by name or path, split by ':'"
    )
    slots: int = Field(default=1, ge=1, le=1000, description="LONGTAKE_SLOTS: chunks rendered at once on this host")
    pass_env: tuple[str, ...] = Field(default=(), description="LONGTAKE_PASS_ENV: more variables that renders see")
    tools_dir: Path | None = Field(default=None, description="LONGTAKE_TOOLS_DIR: added to the PATH of renders")
    host: str = Field(
        default_factory=socket.gethostname,
        min_length=1,
        description="LONGTAKE_HOST: what this host is called in statuses and failures",
    )
    contact_seconds: float = Field(
        default=30, ge=1, description="LONGTAKE_CONTACT_SECONDS: renders stop when Temporal is away for longer"
    )
    # Renders that end within it count; the others are stopped and go to another worker.
    shutdown_grace_seconds: float = Field(default=1, ge=0, description="LONGTAKE_SHUTDOWN_GRACE_SECONDS")

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], *, dev: bool, slots: int | None = None) -> Self:
        """Return the settings of an environment; a development worker may do more by default.

        Raises:
            LongtakeError: A production worker is not told what it may run and where, or a value is off.
        """
        roots = roots_from(environ)
        allowed = _words(environ.get("LONGTAKE_ALLOWED_COMMANDS", ""))
        if not dev and not roots:
            raise LongtakeError("LONGTAKE_ROOTS is not set; name the folders that jobs may use, or start with --dev")
        if not dev and not allowed:
            raise LongtakeError(
                "LONGTAKE_ALLOWED_COMMANDS is not set; name the programs that jobs may run, as in ffmpeg:blender, or "
                "start with --dev"
            )
        values = {
            "task_queue": environ.get("LONGTAKE_TASK_QUEUE") or DEFAULT_TASK_QUEUE,
            "roots": roots or (Path.cwd(), Path.home(), Path(tempfile.gettempdir()).resolve()),
            "allowed_commands": allowed or None,
            "slots": slots if slots is not None else environ.get("LONGTAKE_SLOTS") or os.cpu_count() or 1,
            "pass_env": _words(environ.get("LONGTAKE_PASS_ENV", "")),
            "tools_dir": environ.get("LONGTAKE_TOOLS_DIR") or None,
            "host": environ.get("LONGTAKE_HOST") or socket.gethostname(),
            "contact_seconds": environ.get("LONGTAKE_CONTACT_SECONDS") or 30,
            "shutdown_grace_seconds": environ.get("LONGTAKE_SHUTDOWN_GRACE_SECONDS") or 1,
        }
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            field, _, problem = sentence(error).partition(": ")
            raise LongtakeError(f"LONGTAKE_{field.upper()} {problem}") from error


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(os.pathsep) if word)
