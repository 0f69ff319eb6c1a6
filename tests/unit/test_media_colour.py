"""Colours of films: what RGB is converted by is what the film says, and names of transforms are looked up first."""

import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import OpenImageIO as oiio
import pytest
from support.media.first_picture import first_picture

from activities.media.colour import FilmColours, UnknownColours, add_colours, find_conversion, look_up_colours
from activities.media.encode import build_encode_command, build_image_pattern
from activities.media.images.facts import ImageFacts
from longtake.models.colour import DEFAULT_CONFIG, Colour

FPS = Fraction(25)
EXR = ImageFacts(width=96, height=64, format="OpenEXR", depth="half")
PNG = ImageFacts(width=96, height=64, format="PNG", depth="8-bit")
X264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")
# Blue as a case from the field has it; by BT.601 it would be 135, 179, 41.
BLUE = (0, 189, 242)


def encode_blue(ffmpeg: str, folder: Path, suffix: str, *options: str) -> Path:
    (folder / "f").mkdir()
    source = ("-f", "lavfi", "-i", "color=0x00BDF2:s=64x64:r=25,format=rgb24", "-frames:v", "2")
    subprocess.run([ffmpeg, "-v", "error", *source, str(folder / "f/%d.png")], check=True)
    film = folder / f"film{suffix}"
    pattern = build_image_pattern(f"{folder}/f/", 1, ".png")
    command = build_encode_command(ffmpeg, pattern, 1, FPS, options, film)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return film


@pytest.mark.parametrize(
    ("suffix", "options", "tags", "samples"),
    [
        (".mp4", (), [1, 1, 1, 1], [147, 170, 43]),
        (".webm", (), [1, 1, 1, 1], [147, 170, 43]),
        (".mp4", X264, [1, 1, 1, 1], [147, 170, 43]),
        (".mp4", ("-crf", "12"), [1, 1, 1, 1], [147, 170, 43]),
        (".mov", ("-c:v", "prores_ks"), [1, 1, 1, 0], [588, 680, 172]),
        # Filters before and behind the change of format see what they were written for.
        (".mp4", ("-c:v", "libx264", "-vf", "crop=32:32,format=yuv420p,setsar=1"), [1, 1, 1, 1], [147, 170, 43]),
        # The tags decide, whichever way they are given.
        (".mp4", (*X264, "-colorspace", "smpte170m"), [6, 1, 1, 1], [135, 179, 41]),
        (".mp4", (*X264, "-x264-params", "colormatrix=smpte170m"), [6, 1, 1, 1], [135, 179, 41]),
        (".mp4", (*X264, "-color_range", "pc"), [1, 1, 1, 2], [153, 176, 31]),
        # What converts by itself is left alone, and so is RGB.
        (".mp4", (*X264, "-vf", "scale=out_color_matrix=bt601"), None, [135, 179, 41]),
        (".mov", ("-c:v", "png"), None, list(BLUE)),
    ],
)
def test_films_are_converted_by_the_matrix_that_they_are_tagged_with(
    suffix: str, options: tuple[str, ...], tags: list[int] | None, samples: list[int], ffmpeg: str, tmp_path: Path
) -> None:
    shown = first_picture(encode_blue(ffmpeg, tmp_path, suffix, *options))

    if tags is not None:
        # ProRes does not say its range, which is limited.
        assert shown.tags[:3] == tags[:3]
        assert tags[3] in (0, shown.tags[3])
    depth = 4 if "p12" in shown.pixel_format else 1
    if shown.pixel_format.startswith("yuv"):
        assert all(abs(value / depth - right) <= 2 for value, right in zip(shown.samples, samples, strict=True)), shown


def test_pictures_without_a_known_conversion_keep_their_options() -> None:
    for options in (("-c:v", "utvideo"), ("-c:v", "libx264rgb"), ("-c:v", "libx264", "-pix_fmt", "gbrp")):
        assert add_colours(options, FilmColours()) == list(options)


def write_exr(path: Path, value: tuple[float, ...], names: tuple[str, ...], *, window: int = 96) -> None:
    """Write an OpenEXR of one colour, whose data window is narrower than its display window if it is told to be."""
    spec = oiio.ImageSpec(window, 64, len(names), "half")
    spec.full_width = 96
    spec.channelnames = names
    out = oiio.ImageOutput.create("x.exr")
    assert out is not None
    assert out.open(str(path), spec)
    pixels = np.zeros((64, window, len(names)), "float32")
    pixels[...] = value
    assert out.write_image(pixels), out.geterror()
    out.close()


def convert(ffmpeg: str, folder: Path, colour: Colour | None, suffix: str, *encode: str, **pictures: object) -> Path:
    """Make a film of two OpenEXR files as a job does."""
    frames = folder / "frames"
    frames.mkdir()
    for number in range(2):
        write_exr(frames / f"{number:09}.exr", **pictures)  # type: ignore[arg-type]
    conversion = find_conversion(colour, encode, EXR, folder, DEFAULT_CONFIG)
    assert conversion is not None
    film = folder / f"film{suffix}"
    command = build_encode_command(ffmpeg, "", 0, FPS, encode, film, (), conversion.colours, is_piped=True)
    request = folder / "request.json"
    wrapped = conversion.write_request(request, frames, ".exr", 2, encode, command)
    subprocess.run(wrapped, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={})
    return film


LINEAR = {"value": (0.18, 0.5, 1.5), "names": ("R", "G", "B")}
HDR = Colour(input="ACEScg", output="Rec.2100-PQ", view="ACES 2.0 - HDR 1000 nits (Rec.2020)")


@pytest.mark.parametrize(
    ("colour", "suffix", "encode", "pixels", "tags", "samples"),
    [
        # sRGB of 0.18 and 0.5 is 0.461 and 0.735, and what is brighter than white is white.
        (None, ".mp4", (), "yuv420p", [1, 1, 1, 1], [169, 165, 95]),
        (Colour(input="linear", output="sRGB"), ".mp4", (), "yuv420p", [1, 1, 13, 1], [169, 165, 95]),
        # A display of BT.1886 has a gamma of 2.4: 0.489 and 0.749.
        (Colour(input="linear", output="Rec.709"), ".mp4", (), "yuv420p", [1, 1, 1, 1], [173, 163, 96]),
        (HDR, ".mp4", (), "yuv420p10le", [9, 9, 16, 1], [434, 574, 464]),
        (Colour(input="linear", output="Rec.2100-HLG"), ".webm", (), "yuv420p10le", [9, 9, 18, 1], None),
    ],
)
def test_scene_linear_pictures_are_converted_by_a_named_transform(
    colour: Colour | None, suffix: str, encode: tuple[str, ...], pixels: str, tags: list[int],
    samples: list[int] | None, ffmpeg: str, tmp_path: Path,
) -> None:  # fmt: skip
    film = convert(ffmpeg, tmp_path, colour, suffix, *encode, **LINEAR)

    shown = first_picture(film)
    assert (shown.pixel_format, shown.tags) == (pixels, tags)
    if samples is not None:
        assert all(abs(value - right) <= 2 for value, right in zip(shown.samples, samples, strict=True)), shown


def test_layers_and_data_windows_and_alpha_are_read(ffmpeg: str, tmp_path: Path) -> None:
    names = ("Depth.Z", "ViewLayer.Combined.R", "ViewLayer.Combined.G", "ViewLayer.Combined.B", "ViewLayer.Combined.A")
    # A half transparent white, as compositing programs store it, on the left two thirds of the picture.
    prores = ("-c:v", "prores_ks", "-pix_fmt", "yuva444p10le")
    film = convert(ffmpeg, tmp_path, None, ".mov", *prores, value=(7.0, 0.5, 0.5, 0.5, 0.5), names=names, window=64)

    with av.open(str(film)) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgba64le")
    assert picture.shape[:2] == (64, 96)
    inside, outside = picture[32, 16] / 65535, picture[32, 90] / 65535
    assert all(abs(value - right) < 0.02 for value, right in zip(inside, (1, 1, 1, 0.5), strict=True)), inside
    assert outside[3] < 0.01


def test_what_needs_no_conversion_is_left_to_ffmpeg(tmp_path: Path) -> None:
    assert find_conversion(None, (), PNG, tmp_path, DEFAULT_CONFIG) is None
    assert find_conversion(None, (), None, tmp_path, DEFAULT_CONFIG) is None
    assert (
        find_conversion(None, ("-c:v", "libx264", "-vf", "zscale=tin=linear:t=bt709"), EXR, tmp_path, DEFAULT_CONFIG)
        is None
    )


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"input": "linea"}, "colour.input: 'linea' is no colour space of ocio://studio-config"),
        ({"output": "Rec709x"}, "colour.output: 'Rec709x' is no colour space of ocio://studio-config"),
        ({"view": "nice"}, "colour.view: 'Rec.1886 Rec.709 - Display' has no view 'nice'; it has ACES 2.0 - SDR"),
        ({"input": "ACEScg", "output": "ACEScct", "view": "Raw"}, "colour.view: 'ACEScct' is no display"),
        ({"config": "look.ocio"}, "colour.config: '/"),
        ({"config": "ocio://nothing"}, "colour.config: 'ocio://nothing' cannot be read: "),
    ],
)
def test_names_that_do_not_exist_are_refused_with_those_that_do(
    fields: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UnknownColours) as caught:
        look_up_colours(Colour(**{"input": "linear", "output": "Rec.709", **fields}), tmp_path)

    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("output", "space"),
    [
        ("rec709", "Rec.1886 Rec.709 - Display"),
        ("Rec.2100-PQ", "Rec.2100-PQ - Display"),
        ("rec2100_pq_display", "Rec.2100-PQ - Display"),
        ("hdr10", "Rec.2100-PQ - Display"),
    ],
)
def test_people_need_not_spell_out_the_names_of_a_configuration(output: str, space: str, tmp_path: Path) -> None:
    known = look_up_colours(Colour(input="scene_linear", output=space), tmp_path)

    assert look_up_colours(Colour(input="scene_linear", output=output), tmp_path).colours == known.colours
