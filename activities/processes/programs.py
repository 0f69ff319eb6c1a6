"""The programs that jobs may run, and the environment that renders see."""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import imageio_ffmpeg

from activities.processes.privacy import is_passed
from longtake.errors import BadJobError


def find_ffmpeg() -> str:
    """Find ffmpeg on PATH, or else in the imageio-ffmpeg wheel."""
    return shutil.which("ffmpeg") or imageio_ffmpeg.get_ffmpeg_exe()


def link_ffmpeg(ffmpeg: str, folder: Path) -> None:
    """Link ffmpeg under its plain name into a folder, for scripts of jobs that call `ffmpeg`."""
    link = folder / "ffmpeg"
    if not link.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".ffmpeg.{os.getpid()}"
        partial.symlink_to(os.path.realpath(ffmpeg))
        partial.replace(link)


class Programs:
    """Finds the programs of commands and refuses those that a worker does not allow.

    Args:
        allowed: Names or paths of programs; None allows all.
        ffmpeg: What the name `ffmpeg` stands for.
    """

    def __init__(self, allowed: Sequence[str] | None, ffmpeg: str) -> None:
        self.ffmpeg = ffmpeg
        self._allowed = None if allowed is None else frozenset(filter(None, map(self._locate, allowed)))

    def resolve(self, command: Sequence[str], *, base_dir: Path, field: str) -> tuple[str, ...]:
        """Replace the program of a command by its absolute path.

        Args:
            command: Program and arguments.
            base_dir: Folder that a relative path of a program is resolved against.
            field: Key of the job file, for the error.

        Raises:
            BadJobError: The program is missing or not allowed.
        """
        name = command[0]
        found = self._locate(name) or (self._locate(str(base_dir / name)) if "/" in name else None)
        if found is None:
            raise BadJobError(f"{field}: there is no program {name!r} on this worker; install it or mend the name")
        if self._allowed is not None and found not in self._allowed:
            raise BadJobError(
                f"{field}: {name!r} may not run on this worker; add it to LONGTAKE_ALLOWED_COMMANDS there, or use "
                "another program"
            )
        return (found, *command[1:])

    def _locate(self, name: str) -> str | None:
        if name == "ffmpeg":
            return os.path.realpath(self.ffmpeg)
        found = shutil.which(name)
        # Links are not followed: programs such as busybox look at the name they are called by.
        return os.path.abspath(found) if found else None


def build_render_environment(
    worker: Mapping[str, str], job: Mapping[str, str], *, tag: Mapping[str, str], also: Iterable[str] = ()
) -> dict[str, str]:
    """Build the environment of a render.

    Args:
        worker: The worker's own environment, of which allowed variables and `LC_*` are taken.
        job: Variables that the job sets, which replace the worker's.
        tag: Variables that mark every process of the attempt, which replace all others.
        also: Names of more variables to take from the worker.
    """
    more = set(also)
    kept = {name: value for name, value in worker.items() if is_passed(name) or name in more}
    return {**kept, **job, **tag}
