"""Which programs a job may run, and where they are."""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import imageio_ffmpeg

from longtake.errors import BadJobError


def find_ffmpeg() -> str:
    """Return the path of ffmpeg: the one on PATH, else the one that the imageio-ffmpeg wheel brings."""
    return shutil.which("ffmpeg") or imageio_ffmpeg.get_ffmpeg_exe()


def offer_ffmpeg(ffmpeg: str, folder: Path) -> None:
    """Put ffmpeg under its plain name into a folder, for scripts of jobs that call it so."""
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
        """Return the command with its program's absolute path.

        Raises:
            BadJobError: The program is not there, or not allowed.
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
        # The link's own path is what runs: programs such as busybox look at the name they were called by.
        return os.path.abspath(found) if found else None


# What programs need to find themselves, their files, their language and their GPU.
_ALLOWED = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TMP", "TEMP", "DISPLAY"}
    | {"XDG_RUNTIME_DIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"}
)


def render_environment(
    worker: Mapping[str, str], job: Mapping[str, str], *, tag: Mapping[str, str], also: Iterable[str] = ()
) -> dict[str, str]:
    """Return the variables that a render sees.

    Args:
        worker: The worker's own environment, of which the allow list and `LC_*` are taken.
        job: What the job sets; it wins.
        tag: Marks every process of the attempt, wherever it goes; it wins over all.
        also: More names to take from the worker.
    """
    names = _ALLOWED | set(also)
    kept = {name: value for name, value in worker.items() if name in names or name.startswith("LC_")}
    return {**kept, **job, **tag}
