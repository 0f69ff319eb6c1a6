"""Sound of films: scores as long as the film, and sound of chunks joined to the sample."""

import subprocess
import threading
from array import array
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

from activities.media.audio import build_audio_command, find_audio_suffix, inspect_audio
from activities.media.facts import ChunkFile, DamagedOutput, MediaError, MismatchedOutput, SoundFile
from activities.media.film import verify_film
from activities.media.join import join_video
from longtake.sound_formats import AudioCodec

Render = Callable[..., Path]
AddSound = Callable[..., Path]
ChunksWithSound = Callable[..., list[ChunkFile]]
FPS = Fraction(30000, 1001)
# 42 frames at 29.97: 67267.2 samples at 48 kHz and 61801.74 at 44.1 kHz, so nothing comes out even.
LENGTHS = (15, 15, 12)
FRAMES = sum(LENGTHS)
SINE = ("-f", "lavfi", "-i", "sine=f=441:r=44100:d=10")
H264 = ("-c:v", "libx264", "-bf", "2")
VIDEO = {".avi": ("-c:v", "utvideo"), ".mxf": ("-c:v", "prores_ks")}


@pytest.fixture
def score(ffmpeg: str, tmp_path: Path) -> Path:
    path = tmp_path / "it's the score.wav"
    subprocess.run([ffmpeg, "-v", "error", *SINE, "-t", "0.5", "-ac", "2", str(path)], check=True)
    return path


def sample(frame: int) -> int:
    """The first sample of a frame at 44.1 kHz."""
    return round(frame * 44100 / FPS)


def samples(ffmpeg: str, path: Path, channels: int = 1) -> "array[int]":
    """Decodes the first audio stream to 16 bit samples at its own rate."""
    command = [ffmpeg, "-nostdin", "-v", "error", "-i", str(path), "-map", "0:a:0", "-f", "s16le", "-"]
    decoded = array("h", subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return decoded[::channels]


@pytest.fixture
def add_sound(ffmpeg: str, tmp_path: Path) -> AddSound:
    """Gives a video the samples [first, last) of one long tone."""

    def add(video: Path, first: int, last: int, codec: str = "pcm_s16le", suffix: str = ".mov") -> Path:
        target = tmp_path / f"{video.stem}_{first}{suffix}"
        cut = f"atrim=start_sample={first}:end_sample={last},asetpts=PTS-STARTPTS"
        streams = ("-map", "0:v", "-map", "1:a", "-c:v", "copy", "-af", cut, "-c:a", codec)
        command = [ffmpeg, "-nostdin", "-v", "error", "-y", "-i", str(video), *SINE, *streams, str(target)]
        subprocess.run(command, check=True)
        return target

    return add


@pytest.fixture
def chunks_with_sound(render: Render, add_sound: AddSound) -> ChunksWithSound:
    """Renders chunks as a renderer does: each with the stretch of one long tone that belongs to it."""

    def make(codec: str = "pcm_s16le", suffix: str = ".mov") -> list[ChunkFile]:
        chunks = []
        parts = [(sum(LENGTHS[:index]), frames) for index, frames in enumerate(LENGTHS)]
        for index, (start, frames) in enumerate(parts):
            video = render(".mov", *H264, start=start, frames=frames, fps="30000/1001", beside=parts)
            path = add_sound(video, sample(start), sample(start + frames), codec, suffix)
            chunks.append(ChunkFile(path, f"chunk {index}", frames))
        return chunks

    return make


def join(chunks: list[ChunkFile], target: Path, audio: Path | None = None) -> None:
    sounds = [SoundFile(audio)] if audio else []
    made = join_video(chunks, target, fps=FPS, audio=sounds, progress=lambda _: None, stop=threading.Event())
    verify_film(target, fps=FPS, frames=FRAMES, joined=made, audio=1)


def largest_step(signal: "array[int]") -> int:
    return max(abs(after - before) for before, after in pairwise(signal))


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v", ".ts", ".mkv", ".webm", ".avi", ".mxf"])
@pytest.mark.parametrize("seconds", [Fraction(1, 4), Fraction(1001, 500)])
def test_a_score_is_made_exactly_as_long_as_the_film(
    suffix: str, seconds: Fraction, score: Path, ffmpeg: str, tmp_path: Path
) -> None:
    target = tmp_path / f"sound{find_audio_suffix(suffix)}"
    subprocess.run(build_audio_command(ffmpeg, score, target, duration=seconds, film_suffix=suffix), check=True)
    facts = inspect_audio(target)
    assert len(samples(ffmpeg, target, 2)) == round(seconds * 48000)
    assert abs(facts.duration - seconds) <= Fraction(1024, 48000)
    assert (facts.sample_rate, facts.channels) == (48000, 2)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".ts", ".avi", ".mxf"])
def test_a_film_carries_one_encode_of_its_score(
    suffix: str, score: Path, render: Render, ffmpeg: str, tmp_path: Path
) -> None:
    sound = tmp_path / f"sound{find_audio_suffix(suffix)}"
    film = tmp_path / f"film{suffix}"
    length = FRAMES / FPS
    subprocess.run(build_audio_command(ffmpeg, score, sound, duration=length, film_suffix=suffix), check=True)
    chunks = [
        ChunkFile(render(suffix, *VIDEO.get(suffix, H264), frames=frames, fps="30000/1001"), f"chunk {index}", frames)
        for index, frames in enumerate(LENGTHS)
    ]
    join(chunks, film, sound)
    alone, joined = samples(ffmpeg, sound, 2), samples(ffmpeg, film, 2)
    if suffix == ".ts":
        # A transport stream has no edit list: the encoder's run-up and last packet are heard in full.
        assert 0 <= len(joined) - len(alone) <= 2 * 1024
    else:
        assert joined == alone
        assert len(joined) == round(length * 48000)


def test_opus_is_carried_into_webm(score: Path, render: Render, ffmpeg: str, tmp_path: Path) -> None:
    sound = tmp_path / f"sound{find_audio_suffix('.webm')}"
    length = FRAMES / FPS
    subprocess.run(build_audio_command(ffmpeg, score, sound, duration=length, film_suffix=".webm"), check=True)
    vp9 = ("-c:v", "libvpx-vp9", "-cpu-used", "8")
    chunks = [
        ChunkFile(render(".webm", *vp9, frames=frames, fps="30000/1001"), f"chunk {index}", frames)
        for index, frames in enumerate(LENGTHS)
    ]
    join(chunks, tmp_path / "film.webm", sound)
    joined = samples(ffmpeg, tmp_path / "film.webm", 2)
    assert joined == samples(ffmpeg, sound, 2)
    assert len(joined) == round(length * 48000)


def test_a_score_of_more_bits_and_another_rate_becomes_what_mxf_holds(ffmpeg: str, tmp_path: Path) -> None:
    score, target = tmp_path / "score.wav", tmp_path / "sound.wav"
    subprocess.run([ffmpeg, "-v", "error", *SINE, "-t", "0.5", "-c:a", "pcm_f32le", str(score)], check=True)
    for codec in (None, AudioCodec.PCM):
        command = build_audio_command(ffmpeg, score, target, duration=Fraction(1, 2), film_suffix=".mxf", codec=codec)
        subprocess.run(command, check=True)
        facts = inspect_audio(target)
        assert (facts.codec, facts.sample_rate, facts.duration) == ("pcm_s24le", 48000, Fraction(1, 2))


@pytest.mark.parametrize("suffix", [".mov", ".mkv"])
@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_s24le", "pcm_f32le"])
def test_pcm_of_chunks_is_joined_to_the_sample(
    suffix: str, codec: str, chunks_with_sound: ChunksWithSound, ffmpeg: str, tmp_path: Path
) -> None:
    join(chunks_with_sound(codec=codec), tmp_path / f"film{suffix}")
    joined = samples(ffmpeg, tmp_path / f"film{suffix}")
    whole = [ffmpeg, "-v", "error", *SINE, "-c:a", codec, "-y", str(tmp_path / "whole.mov")]
    subprocess.run(whole, check=True)
    assert joined == samples(ffmpeg, tmp_path / "whole.mov")[: sample(FRAMES)]


@pytest.mark.parametrize(("suffix", "kept"), [(".mov", ".mkv"), (".mkv", ".mp4")])
def test_pcm_from_either_container_is_joined_without_a_click(
    suffix: str, kept: str, chunks_with_sound: ChunksWithSound, ffmpeg: str, tmp_path: Path
) -> None:
    join(chunks_with_sound(suffix=suffix), tmp_path / f"film{kept}")
    joined = samples(ffmpeg, tmp_path / f"film{kept}")
    assert len(joined) == sample(FRAMES)
    # The steepest step of this tone is 4096 * 2 pi * 441 / 44100 = 257; a click is thousands.
    assert largest_step(joined[2048:-2048]) < 400


def test_a_chunk_whose_sound_ends_early_is_filled_with_silence(
    render: Render, add_sound: AddSound, chunks_with_sound: ChunksWithSound, ffmpeg: str, tmp_path: Path
) -> None:
    chunks = chunks_with_sound()
    short = add_sound(render(".mov", *H264, frames=15, fps="30000/1001"), 0, 10000)
    join([ChunkFile(short, "chunk 0", 15), *chunks[1:]], tmp_path / "film.mov")
    joined = samples(ffmpeg, tmp_path / "film.mov")
    begin = sample(15)
    assert not any(joined[10000:begin])
    untouched = samples(ffmpeg, chunks[1].path)
    assert joined[begin : begin + len(untouched)] == untouched


def test_a_few_samples_too_many_are_cut(
    render: Render, add_sound: AddSound, chunks_with_sound: ChunksWithSound, ffmpeg: str, tmp_path: Path
) -> None:
    chunks = chunks_with_sound()
    join(chunks, tmp_path / "exact.mov")
    long = add_sound(render(".mov", *H264, frames=15, fps="30000/1001"), 0, sample(15) + 900)
    join([ChunkFile(long, "chunk 0", 15), *chunks[1:]], tmp_path / "film.mov")
    assert samples(ffmpeg, tmp_path / "film.mov") == samples(ffmpeg, tmp_path / "exact.mov")


def test_a_gap_in_the_times_of_sound_is_silence(render: Render, ffmpeg: str, tmp_path: Path) -> None:
    # Of one second the samples of a tenth are missing, and the times of those behind say so.
    gap = "aselect='not(between(t,0.2,0.3))'"
    chunk = tmp_path / "c.mkv"
    video = ("-i", str(render(".mkv", "-c:v", "ffv1", frames=30)), *SINE, "-map", "0", "-map", "1", "-c:v", "copy")
    command = [ffmpeg, "-nostdin", "-v", "error", *video, "-af", gap, "-t", "1", "-c:a", "pcm_s16le", str(chunk)]
    subprocess.run(command, check=True)
    film = tmp_path / "film.mkv"
    join_video(
        [ChunkFile(chunk, "chunk 0", 30)], film, fps=Fraction(30), progress=lambda _: None, stop=threading.Event()
    )

    heard = samples(ffmpeg, film)
    silent = [index for index in range(0, 44100, 100) if not any(heard[index : index + 100])]
    assert len(heard) == 44100
    assert 0.18 < silent[0] / 44100 < 0.22
    assert 0.28 < silent[-1] / 44100 < 0.33
    assert len(silent) == (silent[-1] - silent[0]) / 100 + 1


def test_sound_far_longer_than_its_chunk_is_refused(render: Render, add_sound: AddSound, tmp_path: Path) -> None:
    long = add_sound(render(".mov", *H264, frames=42, fps="30000/1001"), 0, 100_000)
    with pytest.raises(MismatchedOutput) as caught:
        join([ChunkFile(long, "chunk 0", 42)], tmp_path / "film.mov")
    assert caught.value.sentence == f"chunk 0 ({long}) has sound that is longer than its pictures"


def test_a_chunk_without_the_sound_of_the_others_is_named(
    chunks_with_sound: ChunksWithSound, render: Render, tmp_path: Path
) -> None:
    chunks = chunks_with_sound()
    chunks[1] = ChunkFile(render(".mov", *H264, start=15, frames=15, fps="30000/1001"), "chunk 1", 15)
    with pytest.raises(MismatchedOutput) as caught:
        join(chunks, tmp_path / "film.mov")
    assert caught.value.problem == "has other sound: none instead of pcm_s16le 44100 Hz 1 channels"
    assert caught.value.chunk == 1


def test_a_score_replaces_the_sound_of_chunks(
    score: Path, chunks_with_sound: ChunksWithSound, ffmpeg: str, tmp_path: Path
) -> None:
    sound = tmp_path / "sound.m4a"
    subprocess.run(build_audio_command(ffmpeg, score, sound, duration=FRAMES / FPS, film_suffix=".mov"), check=True)
    join(chunks_with_sound(), tmp_path / "film.mov", sound)
    assert samples(ffmpeg, tmp_path / "film.mov", 2) == samples(ffmpeg, sound, 2)


def test_a_video_without_sound_is_no_score(render: Render) -> None:
    with pytest.raises(DamagedOutput, match="holds no audio stream"):
        inspect_audio(render(".mp4", *H264))


def test_a_cut_score_is_refused(score: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.wav"
    cut.write_bytes(score.read_bytes()[:-1])
    with pytest.raises(MediaError, match=r"^cut\.wav is cut short"):
        inspect_audio(cut)


def test_what_is_no_sound_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "score.wav"
    path.write_text("no sound\n" * 50)
    with pytest.raises(DamagedOutput, match=r"^score\.wav is damaged"):
        inspect_audio(path)
