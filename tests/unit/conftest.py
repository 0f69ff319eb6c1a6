import itertools
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import imageio_ffmpeg
import pytest
import pytest_asyncio

from activities.processes.supervisor import Supervisor

# render(name, *encoder_options, frames=, start=, fps=, size=, extra=) -> the file, made once per session.
Render = Callable[..., Path]
FrameHashes = Callable[[Path], list[str]]


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    return str(imageio_ffmpeg.get_ffmpeg_exe())


@pytest.fixture(scope="session")
def render(ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> Render:
    """Renders frames [start, start + frames) of one endless test film, and with them what is asked for next."""
    made: dict[tuple[object, ...], Path] = {}
    number = itertools.count()

    def make(
        suffix: str,
        *options: str,
        frames: int = 12,
        start: int = 0,
        fps: str = "30",
        size: str = "64x64",
        extra: tuple[str, ...] = (),
        # Other starts and lengths of the same film: one ffmpeg for all takes half of the time.
        beside: Sequence[tuple[int, int]] = (),
    ) -> Path:
        film = (suffix, options, fps, size, extra)
        if (*film, start, frames) not in made:
            picture = ("-f", "lavfi", "-i", f"testsrc2=s={size}:r={fps}")
            command = [ffmpeg, "-nostdin", "-v", "error", "-y", *picture, *extra]
            missing = [one for one in {(start, frames), *beside} if (*film, *one) not in made]
            paths = [tmp_path_factory.getbasetemp() / f"clip{next(number)}{suffix}" for _ in missing]
            for (first, count), path in zip(missing, paths, strict=True):
                window = f"trim=start_frame={first},setpts=PTS-STARTPTS"
                command += ["-vf", window, "-frames:v", str(count), "-pix_fmt", "yuv420p", "-threads", "1", *options]
                command.append(str(path))
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
            made.update(((*film, *one), path) for one, path in zip(missing, paths, strict=True))
        return made[*film, start, frames]

    return make


@pytest.fixture(scope="session")
def frame_hashes(ffmpeg: str) -> FrameHashes:
    """Decodes a video, once, and returns one hash for each picture."""
    known: dict[tuple[object, ...], list[str]] = {}

    def hashes(path: Path) -> list[str]:
        state = path.stat()
        file = (path, state.st_ino, state.st_size, state.st_mtime_ns)
        if file not in known:
            known[file] = decode(path)
        return known[file]

    def decode(path: Path) -> list[str]:
        command = [ffmpeg, "-nostdin", "-v", "error", "-i", f"file:{path}", "-map", "0:v"]
        command += ["-fps_mode", "passthrough", "-f", "framemd5", "-"]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        return [line.split(",")[-1].strip() for line in output.splitlines() if not line.startswith("#")]

    return hashes


@pytest.fixture
def dead_address() -> str:
    """An address where no server answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest_asyncio.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    """A supervisor without cgroups, so that each test shows what the walk alone reaches."""
    async with Supervisor(control_groups=False) as supervisor:
        yield supervisor
