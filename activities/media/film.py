"""Verifying a finished film: every frame in its place, length, codec and sound."""

import threading
from fractions import Fraction
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from activities.media.audio import SoundSpan
from activities.media.containers import READERS
from activities.media.facts import DamagedOutput, MismatchedOutput, VideoFacts
from activities.media.video import read_video

# Matroska's clock; every other container is finer.
_CLOCK = Fraction(1, 1000)


class FilmFacts(BaseModel):
    """What was found in a finished film."""

    model_config = ConfigDict(frozen=True)

    frames: int = Field(ge=1)
    duration_seconds: float = Field(gt=0)
    codec: str
    width: int
    height: int


def verify_film(
    path: Path,
    *,
    fps: Fraction,
    frames: int,
    like: VideoFacts | None = None,
    audio: bool = False,
    slack_seconds: Fraction = Fraction(0),
    stop: threading.Event | None = None,
) -> FilmFacts:
    """Verify that each frame of a film is in its place, and return the facts of the film.

    One pass over the file proves: the container is whole; it holds exactly `frames` pictures, stored in
    order, shown from time zero on the grid of `fps`; it lasts as long as they do; its codec parameters are
    those of the chunks; its sound covers it within one packet.

    Args:
        path: The film; its extension says how it is read.
        fps: Its exact rate.
        frames: How many pictures it must hold.
        like: What its chunks were, for a joined film.
        audio: Whether it must have sound. Sound that is there is checked in any case.
        slack_seconds: How far off its place a frame may be, beside its container's rounding. For films that other
            programs joined: `ffmpeg -f concat -c copy` rounds the length of each chunk (measured: ffmpeg 5.1,
            0.7 ms after 100 frames of 29.97).
        stop: Ends the check when set.

    Raises:
        DamagedOutput: The film is cut, or has other frames or times than it must have.
        MismatchedOutput: The film has another rate, size, codec or set of parameters.
        JoinStopped: `stop` was set.
    """
    reading = read_video(path, fps=fps, frames=frames, stop=stop, with_sound=True, slack_seconds=slack_seconds)
    problem = like and reading.facts.find_mismatch(like)
    if problem:
        raise MismatchedOutput(path.name, problem)
    frame = 1 / fps + slack_seconds
    problem = _time_problem(path, reading.begin, reading.duration_seconds, frames / fps, frame, reading.sound)
    if problem is None and reading.sound is not None:
        problem = _sound_problem(reading.sound, reading.begin, frames / fps)
    if problem is None and audio and reading.sound is None:
        problem = "has no sound"
    if problem is not None:
        raise DamagedOutput(path.name, problem)
    return FilmFacts(
        frames=reading.facts.frames,
        duration_seconds=float(frames / fps),
        codec=reading.facts.codec,
        width=reading.facts.width,
        height=reading.facts.height,
    )


def _time_problem(
    path: Path,
    begin: Fraction,
    duration_seconds: float,
    length: Fraction,
    frame: Fraction,
    sound: SoundSpan | None,
) -> str | None:
    # Transport streams run on a clock of their own, which starts anywhere.
    if READERS[path.suffix.lower()] != "mpegts" and begin != 0:
        return f"starts at {float(begin):.3f} s instead of 0"
    # A container's length may count the last packet of sound to its end.
    allowed = frame + _CLOCK + (2 * sound.packet if sound else 0)
    if abs(duration_seconds - length) > allowed:
        return f"lasts {duration_seconds:.3f} s instead of {float(length):.3f} s"
    return None


def _sound_problem(sound: SoundSpan, begin: Fraction, length: Fraction) -> str | None:
    if sound.begin is None:
        return "has an empty audio stream"
    allowed = sound.packet + _CLOCK
    if sound.begin - begin > allowed:
        return f"has sound that starts at {float(sound.begin - begin):.3f} s instead of 0"
    if abs(sound.end - begin - length) > allowed:
        return f"has sound that ends at {float(sound.end - begin):.3f} s instead of {float(length):.3f} s"
    return None
