"""Films as professionals render them: sound, gaps, colours, codecs, and what is refused with the first chunk."""

import asyncio
import subprocess
from array import array
from pathlib import Path

import av
import pytest
from support.farm import Farm
from support.media.first_picture import first_picture

from longtake import JobState, JobStatus, RenderJobSpec

pytestmark = pytest.mark.integration

FFMPEG = ("ffmpeg", "-nostdin", "-v", "error")
VIDEO = (*FFMPEG, "-f", "lavfi", "-i", "testsrc2=s=64x64:r=25")
COUNT = ("-frames:v", "{count}")
IMAGES = (*COUNT, "-start_number", "{start}", "{output}")
STREAMS = ("-f", "lavfi", "-i", "sine=440:r=48000", "-t", "0.2")


def job(
    farm: Farm, name: str, command: tuple[str, ...], chunk: str, output: str | None, **fields: object
) -> RenderJobSpec:
    return RenderJobSpec.model_validate(
        {
            "name": name,
            "frames": {"count": 10, "per_chunk": 5},
            "fps": "25",
            "command": command,
            "chunk_output": f"{name}/{chunk}",
            "output": output and f"{name}/{output}",
            "base_dir": str(farm.store),
            **fields,
        }
    )


def jobs_of(farm: Farm) -> dict[str, RenderJobSpec]:
    """All jobs of this page, which are rendered at the same time."""
    broken = (
        "[ {chunk} = 1 ] && exit 1; ffmpeg -nostdin -v error -f lavfi -i color=gray:s=64x64:r=25 -frames:v {count} $0"
    )
    unknown = (
        "ffmpeg -nostdin -v error -f lavfi -i testsrc2=s=64x64:r=25 -c:v hap -frames:v {count} $0 && "
        "sed -i s/Hap1/Hap7/ $0"
    )
    # libav knows the name of AVS3, and no wheel of PyAV can decode it.
    undecoded = unknown.replace("Hap7", "avs3")
    # The second half of a group of pictures, as a cut without encoding leaves it.
    cut = (
        "ffmpeg -nostdin -v error -f lavfi -i testsrc2=s=64x64:r=25 -frames:v 20 -c:v libx264 -bf 0 -g 20 $0.mp4 && "
        "ffmpeg -nostdin -v error -ss 0.36 -i $0.mp4 -frames:v {count} -c copy $0"
    )
    tracks = [
        {"file": "tone.wav", "codec": "pcm", "language": "eng"},
        {"file": "tone.wav", "language": "deu", "offset_seconds": 0.2},
    ]
    blue = (*FFMPEG, "-f", "lavfi", "-i", "color=0x00BDF2:s=321x181:r=25,format=rgb24", *IMAGES)
    grey = (*FFMPEG, "-f", "lavfi", "-i", "color=0x808080:s=64x64:r=25,format=rgb24,format=gbrpf32le", *IMAGES)
    clear = (*FFMPEG, "-f", "lavfi", "-i", "color=red@0.25:s=64x64:r=25,format=rgba", *IMAGES)
    aac = (*VIDEO, *STREAMS, "-c:a", "aac", "{output}")
    prores = (*VIDEO, "-c:v", "prores_ks", *COUNT, "{output}")
    utvideo = (*VIDEO, "-c:v", "utvideo", *COUNT, "{output}")
    hap = (*VIDEO, "-c:v", "hap", "-format", "hap_q", *COUNT, "{output}")
    gap = {"frames": {"count": 15, "per_chunk": 5}, "on_chunk_failure": "continue", "allow_gaps": True}
    alpha = ["-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", "-auto-alt-ref", "0"]
    labels = ["-c:v", "prores_ks", "-vf", "setsar=64/45", "-timecode", "01:00:00:00", "-metadata", "title=My Film"]
    h264 = ["-c:v", "libx264", "-pix_fmt", "yuv420p"]
    hdr = {"input": "linear", "output": "Rec.2100-PQ"}
    mp4, mov, png, exr = "{chunk:03}.mp4", "{chunk:03}.mov", "f_{frame:04}.png", "f_{frame:04}.exr"
    # Of one chunk: what they show has nothing to do with joins.
    whole = {"frames": {"count": 5, "per_chunk": 5}}
    once, twice = ({"attempts": attempts, "initial_seconds": 0} for attempts in (1, 2))
    listed = (
        job(farm, "hap", hap, mov, "film.mov", verify="full"),
        job(farm, "unknown", ("sh", "-c", unknown, "{output}"), mov, None, retry=twice),
        job(
            farm,
            "undecoded",
            ("sh", "-c", undecoded, "{output}"),
            mov,
            "film.mov",
            frames={"count": 5, "per_chunk": 5},
            merge_command=["cp", "undecoded/000.mov", "{output}"],
        ),
        job(farm, "cut", ("sh", "-c", cut, "{output}"), mp4, "film.mp4", retry=once),
        job(farm, "aac", aac, mp4, "film.mp4"),
        job(farm, "dropped", aac, mp4, "film.mp4", drop=["audio"]),
        job(farm, "gap", ("sh", "-c", broken, "{output}"), mp4, "film.mp4", audio="tone.wav", retry=once, **gap),
        job(farm, "tracks", prores, mov, "film.mov", audio=tracks),
        job(farm, "avi", utvideo, "{chunk:03}.avi", "film.avi", audio="tone.wav"),
        job(farm, "mxf", (*VIDEO, *IMAGES), png, "film.mxf", audio="tone.wav"),
        job(farm, "reordered", (*VIDEO, "-c:v", "libx264", *COUNT, "{output}"), mp4, "film.mxf", retry=once),
        job(farm, "colours", blue, png, "film.mp4"),
        job(farm, "encoded", blue, png, "film.mp4", encode=["-c:v", "libx264", "-pix_fmt", "yuv444p"], **whole),
        job(farm, "linear", grey, exr, "film.mp4", encode=h264, **whole),
        job(farm, "hdr", grey, exr, "film.mp4", colour=hdr, audio="tone.wav", **whole),
        job(farm, "misnamed", grey, exr, "film.mp4", colour={**hdr, "output": "Rec.2100-PK"}, **whole),
        job(farm, "no encoder", blue, png, "film.mp4", encode=["-c:v", "libx265x"], **whole),
        job(farm, "no place", blue, png, "film.mov", encode=["-c:v", "libvpx-vp9"], **whole),
        job(farm, "alpha", clear, png, "film.webm", audio="tone.wav", encode=alpha, **whole),
        job(farm, "flattened", clear, png, "film.mp4", **whole),
        # As Blender writes by default: with alpha that nothing uses.
        job(farm, "opaque", (*VIDEO, "-pix_fmt", "rgba", *IMAGES), png, "film.mp4", **whole),
        job(farm, "silent", (*VIDEO, *IMAGES), png, "film.mov", encode=labels, **whole),
        job(farm, "labels", (*VIDEO, *IMAGES), png, "film.mov", audio=tracks[1], encode=labels),
    )
    return {each.name: each for each in listed}


def loudness(ffmpeg: str, film: Path, track: int = 0) -> list[bool]:
    """Decode a sound; tell of each fifth of a second whether anything is heard."""
    words = ("-i", str(film), "-map", f"0:a:{track}", "-ac", "1", "-ar", "48000", "-f", "s16le", "-")
    decoded = array("h", subprocess.run([ffmpeg, "-v", "error", *words], check=True, stdout=subprocess.PIPE).stdout)
    # The ends of each stretch are left out: lossy codecs blur what is beside them.
    return [max(map(abs, decoded[at + 1200 : at + 8400]), default=0) > 1000 for at in range(0, len(decoded), 9600)]


async def test_films_hold_what_their_jobs_ask_for_and_nothing_is_lost_silently(farm: Farm, ffmpeg: str) -> None:
    # Heard in the second fifth of a second, and never again.
    tone = ("-f", "lavfi", "-i", "sine=440:r=48000:d=0.6", "-af", "volume='4*between(t,0.2,0.4)':eval=frame")
    words = [ffmpeg, "-v", "error", *tone, str(farm.store / "tone.wav")]
    await asyncio.to_thread(subprocess.run, words, check=True)
    jobs = jobs_of(farm)
    found: dict[str, JobStatus] = dict(zip(jobs, await asyncio.gather(*map(farm.run, jobs.values())), strict=True))

    whole = ("hap", "dropped", "gap", "tracks", "avi", "mxf", "opaque")
    for name in (*whole, "colours", "encoded", "linear", "hdr", "alpha", "silent", "labels"):
        assert found[name].state is JobState.COMPLETED, (name, found[name].error)
        assert found[name].notices == (), name
    result = found["hap"].result
    assert result is not None
    assert result.proof == "all 10 frames decoded and compared with the chunks"
    with av.open(str(farm.store / "hap/film.mov")) as film:
        assert film.streams.video[0].codec_context.codec_tag == "HapY"

    assert found["unknown"].state is JobState.FAILED
    assert [failure.attempts for failure in found["unknown"].failures][:1] == [2]
    assert "holds video of a codec that nothing here can read" in (found["unknown"].error or "")

    undecoded = found["undecoded"]
    assert undecoded.state is JobState.COMPLETED, undecoded.error
    assert undecoded.result is not None
    assert undecoded.result.frames == 5
    assert undecoded.result.proof == ""
    said = "its pictures are avs3, which cannot be decoded here: frames and times are proven, pictures not"
    assert undecoded.result.unproven == (said, f"chunk 0: {said}")
    assert any(said in notice for notice in undecoded.notices), undecoded.notices

    assert found["cut"].state is JobState.FAILED
    assert "hides some of its frames by an edit list" in (found["cut"].error or "")
    assert not (farm.store / "cut/film.mp4").exists()

    assert found["aac"].state is JobState.FAILED
    assert found["aac"].needs_change
    assert "drop: [audio]" in (found["aac"].error or "")
    with av.open(str(farm.store / "dropped/film.mp4")) as film:
        assert [stream.type for stream in film.streams] == ["video"]

    # The fifth of a second with the tone belonged to the chunk that failed.
    assert await asyncio.to_thread(loudness, ffmpeg, farm.store / "gap/film.mp4") == [False, False]

    with av.open(str(farm.store / "tracks/film.mov")) as film:
        assert [stream.codec_context.name for stream in film.streams.audio] == ["pcm_s16le", "aac"]
        assert [stream.metadata.get("language") for stream in film.streams.audio] == ["eng", "deu"]
    assert await asyncio.to_thread(loudness, ffmpeg, farm.store / "tracks/film.mov", 0) == [False, True]
    # Later by a fifth of a second, the tone begins where the film ends.
    assert await asyncio.to_thread(loudness, ffmpeg, farm.store / "tracks/film.mov", 1) == [False, False]

    for name, codec in (("avi", "utvideo"), ("mxf", "prores")):
        path = farm.store / name / f"film.{name}"
        with av.open(str(path)) as film:
            assert [stream.codec_context.name for stream in film.streams] == [codec, "pcm_s16le"]
        assert await asyncio.to_thread(loudness, ffmpeg, path) == [False, True]
    assert found["reordered"].state is JobState.FAILED
    assert found["reordered"].needs_change
    assert "cannot hold h264 whose frames are stored in another order" in (found["reordered"].error or "")

    # By BT.601 it would be 135, 179, 41; half the light of white is 188 of 255 in sRGB, and PQ of 50 nits is 0.44.
    bt709, bt2100 = [1, 1, 1, 1], [9, 9, 16, 1]
    for name, tags, right in (
        ("colours", bt709, (147, 170, 43)),
        ("encoded", bt709, (147, 170, 43)),
        ("linear", bt709, (178, 128, 128)),
        ("hdr", bt2100, (450, 512, 512)),
    ):
        shown = first_picture(farm.store / name / "film.mp4")
        assert shown.tags == tags, name
        assert all(abs(value - one) <= 2 for value, one in zip(shown.samples, right, strict=True)), (name, shown)
        assert name != "colours" or shown.size == (322, 182)
    assert found["misnamed"].state is JobState.FAILED
    assert "colour.output: 'Rec.2100-PK' is no colour space of ocio://" in (found["misnamed"].error or "")
    assert not (farm.store / "misnamed/f_0000.exr").exists()
    # Made once and not three times, and no retry is advised.
    for name, said in (("no encoder", "Unknown encoder 'libx265x'"), ("no place", "Could not write header")):
        assert found[name].needs_change, name
        assert said in (found[name].error or "")

    flattened = found["flattened"]
    assert flattened.state is JobState.COMPLETED, flattened.error
    assert flattened.result is not None
    (lost,) = flattened.result.unproven
    assert lost.startswith("its pictures are transparent and the film is not")
    assert flattened.notices == (lost,)

    assert b"\x53\xc0\x81\x01" in (farm.store / "alpha/film.webm").read_bytes()[:4096]

    for name, sounds in (("labels", ["aac"]), ("silent", [])):
        with av.open(str(farm.store / name / "film.mov")) as film:
            assert film.metadata["title"] == "My Film"
            assert film.streams.video[0].metadata["timecode"] == "01:00:00:00"
            assert str(film.streams.video[0].sample_aspect_ratio) == "64/45"
            assert [stream.codec_context.name for stream in film.streams.audio] == sounds
            assert [stream.metadata.get("language") for stream in film.streams.audio] == ["deu"] * len(sounds)
