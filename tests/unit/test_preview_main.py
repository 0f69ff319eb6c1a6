"""Chunks of any container become fragments that follow each other on one clock, with the frames that they had."""

import io
import os
import subprocess
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy
import numpy.typing
import OpenImageIO as oiio
import pytest
from av.audio.resampler import AudioResampler

from activities.attempts.pictures import PictureProcess
from activities.media.audio import build_audio_command
from activities.media.facts import ChunkFile
from activities.media.images.image_formats import find_formats
from activities.media.join import join_video
from longtake import colour_main
from longtake.descriptor_process import DescriptorProcess, ProcessFailedError
from longtake.models.colour import DEFAULT_CONFIG
from longtake.sound_formats import AudioCodec
from longtake.web import preview_main
from longtake.web.preview_film import PreviewFragment, PreviewSound

FRAMES = 12
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-b_strategy", "0", "-g", "24")


@pytest.fixture(scope="module")
def process() -> Iterator[DescriptorProcess]:
    process = DescriptorProcess(preview_main.__file__, DEFAULT_CONFIG, most_seconds=120)
    yield process
    process.close()


def encode(folder: Path, suffix: str, rate: str, *options: str) -> list[Path]:
    """Two chunks of a film."""
    files = [folder / f"{number}{suffix}" for number in range(2)]
    for number, file in enumerate(files):
        pick = f"trim=start_frame={FRAMES * number},setpts=PTS-STARTPTS"
        source = ("-f", "lavfi", "-i", f"testsrc2=s=192x108:r={rate}", "-vf", pick, "-frames:v", str(FRAMES))
        subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *source, *options, str(file)], check=True)
    return files


def ask(
    process: DescriptorProcess,
    files: list[Path],
    rate: str,
    *,
    longest: int = 0,
    sound: dict[str, object] | None = None,
    **more: object,
) -> dict[str, object] | PreviewFragment:
    descriptors = [os.open(file, os.O_RDONLY) for file in files]
    exact = Fraction(rate)
    request: dict[str, object] = {
        "suffix": files[0].suffix,
        "rate": [exact.numerator, exact.denominator],
        "longest": longest,
    }
    request |= {"sound": sound, **more}
    try:
        told, data = process.ask(request, descriptors)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    if "unplayable" in told:
        return told
    return PreviewFragment(data[: told["init_bytes"]], data[told["init_bytes"] :], told["tick"], told["clocks"])


def decode(source: Path | bytes) -> list[tuple[Fraction, bytes]]:
    with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source), "r") as container:
        frames = list(container.decode(video=0))
        first = (frames[0].pts or 0) * (frames[0].time_base or Fraction(0))
        return [
            ((each.pts or 0) * (each.time_base or Fraction(0)) - first, bytes(each.reformat(format="gray").planes[0]))
            for each in frames
        ]


@pytest.mark.parametrize(
    ("suffix", "rate", "options"),
    [
        (".mp4", "25", (*X264, "-bf", "3")),
        (".mkv", "24000/1001", (*X264, "-bf", "3", "-x264-params", "b-pyramid=normal")),
        (".ts", "30000/1001", (*X264, "-bf", "2")),
        (".mov", "25", (*X264, "-bf", "0")),
        (".webm", "30", ("-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p", "-deadline", "realtime", "-cpu-used", "8")),
        (".mp4", "25", ("-c:v", "libsvtav1", "-preset", "12", "-pix_fmt", "yuv420p")),
        (".webm", "24", ("-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-pix_fmt", "yuv420p")),
        (".mkv", "25", ("-c:v", "libsvtav1", "-preset", "12", "-pix_fmt", "yuv420p10le")),
        (
            ".mkv",
            "25",
            ("-c:v", "libx265", "-pix_fmt", "yuv420p", "-x265-params", "log-level=error", "-preset", "ultrafast"),
        ),
    ],
)
def test_packets_are_taken_as_they_are(
    process: DescriptorProcess, tmp_path: Path, suffix: str, rate: str, options: tuple[str, ...]
) -> None:
    files = encode(tmp_path, suffix, rate, *options)

    made = [ask(process, [file], rate) for file in files]

    assert all(isinstance(each, PreviewFragment) for each in made), made
    first, second = (each for each in made if isinstance(each, PreviewFragment))
    shown = decode(first.init + first.begin_at(0) + second.begin_at(FRAMES))
    assert [time for time, _ in shown] == [number / Fraction(rate) for number in range(2 * FRAMES)]
    assert [frame for _, frame in shown] == [frame for file in files for _, frame in decode(file)]
    assert b"hev1" not in first.init


@pytest.mark.parametrize(
    ("suffix", "options", "named"),
    [
        (".mov", ("-c:v", "prores_ks"), "prores"),
        (".mp4", (*X264[:4], "-pix_fmt", "yuv444p"), "h264 yuv444p"),
        (".mkv", ("-c:v", "ffv1"), "ffv1"),
    ],
)
def test_what_no_browser_plays_is_named_and_has_a_small_copy(
    process: DescriptorProcess, tmp_path: Path, suffix: str, options: tuple[str, ...], named: str
) -> None:
    files = encode(tmp_path, suffix, "25", *options)

    refused = ask(process, files[:1], "25")
    first, second = (ask(process, [file], "25", longest=96) for file in files)

    assert isinstance(refused, dict)
    assert named in str(refused["unplayable"])
    assert isinstance(first, PreviewFragment)
    assert isinstance(second, PreviewFragment)
    assert first.init == second.init
    shown = decode(first.init + first.begin_at(0) + second.begin_at(FRAMES))
    assert [time for time, _ in shown] == [Fraction(number, 25) for number in range(2 * FRAMES)]
    assert len(shown[0][1]) >= 96 * 54


def test_a_file_that_is_damaged_is_said_and_ends_nothing(process: DescriptorProcess, tmp_path: Path) -> None:
    sound = encode(tmp_path, ".mp4", "25", *X264)[0]
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(sound.read_bytes()[:1000])

    with pytest.raises(ProcessFailedError, match=r"libav|pictures"):
        ask(process, [damaged], "25")
    assert isinstance(ask(process, [sound], "25"), PreviewFragment)


def test_no_list_of_other_files_is_followed(process: DescriptorProcess, tmp_path: Path) -> None:
    sound = encode(tmp_path, ".mp4", "25", *X264)[0]
    for suffix in (".mp4", ".mkv", ".ts", ".png"):
        script = tmp_path / f"script{suffix}"
        script.write_text(f"ffconcat version 1.0\nfile '{sound}'\n")
        with pytest.raises(ProcessFailedError):
            ask(process, [script], "25", longest=64)


def make_sound(path: Path, seconds: str, sample_rate: int, *options: str) -> Path:
    """A sound whose samples differ everywhere: a tone that rises."""
    sweep = f"aevalsrc=0.6*sin(600*t+200*t*t)|0.4*cos(900*t+90*t*t):s={sample_rate}:d={seconds}"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", "-f", "lavfi", "-i", sweep, *options, str(path)]
    subprocess.run(command, check=True)
    return path


def read_sound(source: Path | bytes) -> "numpy.typing.NDArray[numpy.int16]":
    """Decode a sound, and see that no sample is missing between its packets."""
    resampler = AudioResampler(format="s16", layout="stereo")
    pieces = []
    with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source), "r") as container:
        following: int | None = None
        for frame in container.decode(audio=0):
            if isinstance(source, bytes):
                assert following in (None, frame.pts)
                following = (frame.pts or 0) + frame.samples
            pieces += [made.to_ndarray().reshape(-1, 2) for made in resampler.resample(frame)]
    return numpy.concatenate(pieces)


def ask_for_sound(process: DescriptorProcess, file: Path) -> object:
    with file.open("rb") as opened:
        told, _ = process.ask({"suffix": file.suffix, "looks_for_sound": True}, [opened.fileno()])
    return told["sound"]


def ask_with_sound(
    process: DescriptorProcess, files: list[Path], rate: str, form: PreviewSound, start: int, stop: int, suffix: str
) -> PreviewFragment:
    exact = Fraction(rate)
    first = form.count_samples(start, exact)
    made = ask(
        process,
        files,
        rate,
        sound={
            "suffix": suffix,
            "is_own": not suffix,
            "rate": form.rate,
            "channels": form.channels,
            "start": first if suffix else 0,
            "count": form.count_samples(stop, exact) - first,
        },
    )
    assert isinstance(made, PreviewFragment)
    return made


@pytest.mark.parametrize(
    ("suffix", "rate", "sample_rate", "options"),
    [
        (".mov", "25", 48000, ("-c:a", "pcm_s16le", *X264, "-bf", "3")),
        (".mkv", "30000/1001", 44100, ("-c:a", "pcm_s16le", *X264, "-bf", "2")),
        (".mov", "24000/1001", 48000, ("-c:a", "pcm_s16be", *X264, "-bf", "0")),
    ],
)
def test_sound_of_chunks_is_that_of_the_film_to_the_sample(
    process: DescriptorProcess, tmp_path: Path, suffix: str, rate: str, sample_rate: int, options: tuple[str, ...]
) -> None:
    whole = make_sound(tmp_path / "whole.wav", "4", sample_rate)
    files = []
    form, exact = PreviewSound(sample_rate, 2), Fraction(rate)
    for number, file in enumerate(encode(tmp_path, suffix, rate, *X264)):
        begin, end = (form.count_samples((number + more) * FRAMES, exact) for more in (0, 1))
        sounding = tmp_path / f"sounding{number}{suffix}"
        cut = f"atrim=start_sample={begin}:end_sample={end},asetpts=PTS-STARTPTS"
        inputs = ("-i", str(file), "-i", str(whole), "-map", "0:v", "-map", "1:a", "-af", cut)
        subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *inputs, *options, str(sounding)], check=True)
        files.append(sounding)
    film = tmp_path / f"film{suffix}"
    chunks = [ChunkFile(file, f"chunk {number}", FRAMES) for number, file in enumerate(files)]
    join_video(chunks, film, fps=exact, progress=lambda _: None, stop=threading.Event())

    found = ask_for_sound(process, files[0])
    first, second = (
        ask_with_sound(process, [file], rate, form, number * FRAMES, (number + 1) * FRAMES, "")
        for number, file in enumerate(files)
    )

    assert found == {"rate": sample_rate, "channels": 2}
    assert first.init == second.init
    preview = first.init + first.begin_at(0) + second.begin_at(FRAMES, form.count_samples(FRAMES, exact))
    assert numpy.array_equal(read_sound(preview), read_sound(film))
    assert [time for time, _ in decode(preview)] == [number / exact for number in range(2 * FRAMES)]
    if "-bf" not in options or options[options.index("-bf") + 1] == "0":
        # With B-frames libav shows pictures later than browsers do; see the test of the page.
        with av.open(io.BytesIO(preview), "r") as container:
            assert {stream.start_time for stream in container.streams} == {0}


@pytest.mark.parametrize(
    ("suffix", "sample_rate", "options", "most_difference", "most_late"),
    [
        (".wav", 48000, (), 0, 0),
        (".wav", 44100, ("-c:a", "pcm_s16le"), 0, 0),
        (".flac", 44100, ("-sample_fmt", "s16"), 0, 0),
        # The clock of Matroska counts milliseconds.
        (".mka", 48000, ("-c:a", "flac", "-sample_fmt", "s16"), 0, 24),
        # Without noise that each decoder makes anew.
        (".m4a", 48000, ("-c:a", "aac", "-aac_pns", "0"), 3, 0),
        (".mp3", 44100, ("-c:a", "libmp3lame"), 3, 0),
        (".opus", 48000, ("-c:a", "libopus"), 3, 0),
    ],
)
def test_the_sound_of_the_whole_film_is_cut_where_its_frames_are(
    process: DescriptorProcess,
    tmp_path: Path,
    suffix: str,
    sample_rate: int,
    options: tuple[str, ...],
    most_difference: int,
    most_late: int,
) -> None:
    rate, exact, frames = "30000/1001", Fraction(30000, 1001), 12 * FRAMES
    chunk = encode(tmp_path, ".mp4", rate, *X264)[0]
    # Shorter than the film, which ends in silence; a whole number of packets of AAC.
    sound = make_sound(tmp_path / f"sound{suffix}", "3.968", sample_rate, *options)
    wav = tmp_path / "film.wav"
    command = build_audio_command(
        imageio_ffmpeg.get_ffmpeg_exe(),
        sound,
        wav,
        film_suffix=".mkv",
        duration=frames / exact,
        codec=AudioCodec.PCM,
    )
    subprocess.run(command, check=True)
    form = PreviewSound(sample_rate, 2)

    preview = b""
    for begin in range(0, frames, FRAMES):
        made = ask_with_sound(process, [chunk, sound], rate, form, begin, begin + FRAMES, suffix)
        preview += (b"" if preview else made.init) + made.begin_at(begin, form.count_samples(begin, exact))

    heard, wanted = read_sound(preview).astype(int), read_sound(wav).astype(int)
    assert heard.shape == wanted.shape
    assert numpy.abs(wanted).max() > 8000
    for begin in range(0, frames, FRAMES):
        first, stop = (form.count_samples(place, exact) for place in (begin, begin + FRAMES))
        piece = heard[first + most_late : stop - most_late]
        lags = range(-most_late, most_late + 1)
        shifted = (wanted[first + most_late + lag : stop - most_late + lag] for lag in lags)
        assert min(numpy.abs(piece - each).max() for each in shifted) <= most_difference, begin


def make_linear(folder: Path, count: int) -> list[Path]:
    """Pictures whose light is half of white, and more to the right."""
    files = [folder / f"{number}.exr" for number in range(count)]
    for file in files:
        spec = oiio.ImageSpec(64, 32, 3, oiio.HALF)
        image = oiio.ImageBuf(spec)
        oiio.ImageBufAlgo.fill(image, (0.5, 0.5, 0.5), oiio.ROI(0, 32, 0, 32))
        oiio.ImageBufAlgo.fill(image, (4.0, 0.2, 0.1), oiio.ROI(32, 64, 0, 32))
        assert image.write(str(file)), image.geterror()
    return files


ACES = {"input": "ACEScg", "output": "sRGB - Display", "view": "ACES 2.0 - SDR 100 nits (Rec.709)"}
HDR = {"input": "linear", "output": "hdr10", "view": "ACES 2.0 - HDR 1000 nits (P3 D65)"}


@pytest.mark.parametrize("colours", [None, ACES, HDR, {**ACES, "output": "no such space"}])
def test_a_small_copy_of_linear_pictures_has_the_colours_of_small_pictures(
    process: DescriptorProcess, tmp_path: Path, colours: dict[str, str] | None
) -> None:
    files = make_linear(tmp_path, 2)
    pictures = PictureProcess(DEFAULT_CONFIG)
    asked = colours if colours is not None and "no such" not in colours["output"] else colour_main.OF_LINEAR
    with files[0].open("rb") as file:
        jpeg, _ = pictures.make_picture(
            file.fileno(), find_formats(".exr")[0], suffix=".exr", longest=64, colours=asked
        )
    pictures.close()
    with av.open(io.BytesIO(jpeg), "r", format="jpeg_pipe") as container:
        wanted = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int)

    made = ask(process, files, "25", longest=64, colours=colours)

    assert isinstance(made, PreviewFragment)
    with av.open(io.BytesIO(made.init + made.begin_at(0)), "r") as container:
        shown = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    assert len(shown) == 2
    assert shown[0].shape == wanted.shape
    for column in (16, 48):
        assert abs(shown[0][16, column] - wanted[16, column]).max() <= 4, column
