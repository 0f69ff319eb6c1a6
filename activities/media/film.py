"""Verifying a finished film: every frame in its place, length, codec and sound."""

import threading
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from av.video.stream import VideoStream
from pydantic import BaseModel, ConfigDict, Field

from activities.media.audio import SoundSpan
from activities.media.containers import READERS, check_structure, find_video_stream, open_media
from activities.media.decoder import decode_pictures, has_alpha, hash_picture
from activities.media.facts import DamagedOutput, MediaError, MismatchedOutput, UnknownOutput, VideoFacts
from activities.media.seams import JoinedFilm, SeamDecoder, compare_all_frames, count_decoded_frames
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
    has_alpha: bool = Field(False, description="Its pictures may be transparent.")
    proof: str = Field("", description="Which pictures were decoded and compared.")
    notes: tuple[str, ...] = Field((), description="What could not be proven, and what the container has no place for.")


def verify_film(
    path: Path,
    *,
    fps: Fraction,
    frames: int,
    joined: JoinedFilm | None = None,
    like: VideoFacts | None = None,
    audio: int = 0,
    full: bool = False,
    slack_seconds: Fraction = Fraction(0),
    stop: threading.Event | None = None,
) -> FilmFacts:
    """Verify that each frame of a film is in its place, and return the facts of the film.

    One pass over the file proves: the container is whole; it holds exactly `frames` pictures, stored in
    order, shown from time zero on the grid of `fps`; it lasts as long as they do; its codec parameters, and what it
    says of how it is shown, are those of the chunks; its sound covers it within one packet. The first and the last
    frame can be decoded. Of a joined film they, and the frames around seams, are those of the chunks (`SeamDecoder`).

    Args:
        path: The film; its extension says how it is read.
        fps: Its exact rate.
        frames: How many pictures it must hold.
        joined: How it was joined; None for a film that was encoded or made by another program.
        like: What its pictures must be, if they are known and it was not joined here.
        audio: How many sounds it must have. Sound that is there is checked in any case.
        full: Decode all of its frames, and compare all with those of the chunks if it was joined.
        slack_seconds: How far off its place a frame may be, beside its container's rounding. For films that other
            programs joined: `ffmpeg -f concat -c copy` rounds the length of each chunk (measured: ffmpeg 5.1,
            0.7 ms after 100 frames of 29.97).
        stop: Ends the check when set.

    Raises:
        DamagedOutput: The film is cut, or has other frames or times than it must have.
        MismatchedOutput: The film has another rate, size, codec or set of parameters.
        JoinStopped: `stop` was set.
    """
    seams: list[SeamDecoder] = []
    watch = None
    if joined is not None:
        like = joined.facts

        def watch(stream: VideoStream, name: str) -> SeamDecoder:
            seams.append(SeamDecoder(stream, name, joined, fps))
            return seams[0]

    try:
        reading = read_video(
            path,
            fps=fps,
            frames=frames,
            stop=stop,
            with_sound=True,
            slack_seconds=slack_seconds,
            watch=watch,
            written=joined.sizes if joined is not None else None,
        )
    except (DamagedOutput, UnknownOutput) as error:
        if joined is None or _shows_first(path, joined.facts):
            raise
        lost = f"cannot hold {joined.facts.codec} as the chunks have it: the film {error.problem}"
        raise MismatchedOutput(path.name, f"{lost}; end output in the extension of the chunks") from error
    facts = reading.facts
    problem = like and facts.find_mismatch(like, joined=True)
    if problem:
        raise MismatchedOutput(path.name, problem)
    frame = 1 / fps + slack_seconds
    problem = _time_problem(path, reading.begin, reading.duration_seconds, frames / fps, frame, reading.sounds)
    for sound in reading.sounds:
        problem = problem or _sound_problem(sound, reading.begin, frames / fps)
    if problem is None and len(reading.sounds) < audio:
        problem = "has no sound" if audio == 1 else f"has {len(reading.sounds)} of its {audio} sounds"
    if problem is not None:
        raise DamagedOutput(path.name, problem)
    return FilmFacts(
        frames=facts.frames,
        duration_seconds=float(frames / fps),
        codec=facts.codec,
        width=facts.width,
        height=facts.height,
        has_alpha=facts.alpha == "1" or has_alpha(facts.pixel_format),
        proof=_prove_pictures(path, facts, joined, seams, full, stop),
        notes=tuple(filter(None, (facts.unproven, like and facts.find_lost_labels(like)))),
    )


def _shows_first(path: Path, facts: VideoFacts) -> bool:
    """Tell whether a joined film is cut or shows the first picture of its chunks; else its container is to blame."""
    try:
        check_structure(path)
    except DamagedOutput:
        return True
    try:
        with open_media(path) as container:
            stream = find_video_stream(container, path.name)
            first = next(decode_pictures(container, stream, path.name), None)
    except MediaError:
        return False
    return first is not None and facts.first_picture in ("", hash_picture(first))


def _prove_pictures(
    path: Path,
    facts: VideoFacts,
    joined: JoinedFilm | None,
    seams: list[SeamDecoder],
    full: bool,
    stop: threading.Event | None,
) -> str:
    """Decode the rest of a film where that is asked for, and tell which pictures are proven by decoding."""
    if facts.unproven:
        return ""
    if joined is None:
        if full:
            count = count_decoded_frames(path, stop)
            if count != facts.frames:
                raise DamagedOutput(path.name, f"shows {count} frames instead of {facts.frames} when it is decoded")
            return f"all {count} frames decoded"
        return "first and last frame decoded"
    if full:
        return f"all {compare_all_frames(path, joined.chunks, stop)} frames decoded and compared with the chunks"
    decoder = seams[0]
    compared = ["first and last frame"]
    if decoder.seams and (decoder.compared_seams or not decoder.compared_starts):
        compared.append(f"frames around {decoder.compared_seams} of {decoder.seams} seams")
    if decoder.compared_starts:
        compared.append(f"the first frame after {decoder.compared_starts} of {decoder.seams} seams")
    return f"{', and '.join(compared)} decoded and compared with the chunks"


def _time_problem(
    path: Path,
    begin: Fraction,
    duration_seconds: float,
    length: Fraction,
    frame: Fraction,
    sounds: Sequence[SoundSpan],
) -> str | None:
    # Transport streams run on a clock of their own, which starts anywhere.
    if READERS[path.suffix.lower()] != "mpegts" and begin != 0:
        return f"starts at {float(begin):.3f} s instead of 0"
    # A container's length may count the last packet of sound to its end.
    allowed = frame + _CLOCK + 2 * max((sound.packet for sound in sounds), default=0)
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
