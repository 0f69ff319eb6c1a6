"""Every format that renderers write: sound files pass, and damaged ones are refused as far as the format can tell."""

import re
import struct
from pathlib import Path

import pytest
from support.media.image_matrix import BEGIN, END, LATE, PAGE, PASSES, REFUSED, heads, measure_row
from support.media.image_samples import DAMAGES, HEIGHT, SAMPLES, WIDTH, make_sample

from activities.media.facts import DamagedOutput
from activities.media.images.check import check_image
from activities.media.images.facts import ImageProof
from activities.media.images.image_formats import FORMATS

# Of uncompressed samples zero is a value like any other; arithmetic codes decode from whatever stands there.
_ZEROS_PASS = re.compile(
    r"TIFF raw|DPX.*|TGA|TGA grey|BMP.*|P[A-Z]M|SGI|SGI 16-bit|IFF|Sun raster|QOI|zfile|JPEG 2000.*|WebP.*|AVIF.*"
)
# The pixels of these end before the last hundredth of the file.
_TAIL_IS_NO_PIXEL = re.compile(r"TGA.*")


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sound_file_says_what_it_is_a_damaged_one_is_refused_and_the_page_says_so(
    name: str, tmp_path: Path, ffmpeg: str
) -> None:
    facts = check_image(make_sample(name, tmp_path, ffmpeg))
    assert (facts.width, facts.height) == (WIDTH, HEIGHT)
    assert facts.format in name or facts.format in ("TIFF", "OpenEXR", "portable map")
    assert facts.format == "JPEG XL" or (facts.channels and facts.depth)

    row = measure_row(name, tmp_path, ffmpeg)
    assert f"\n{row}\n" in PAGE.read_text(), f"`make media-matrix ARGS=--write`: {row}"
    assert row.damages["cut to 70 %"] == row.damages["empty"] == row.damages["other content"] == REFUSED
    assert row.damages["cut to 99 %"] == REFUSED or _TAIL_IS_NO_PIXEL.fullmatch(name)
    assert row.damages["20 % zeros inside"] == REFUSED or _ZEROS_PASS.fullmatch(name)
    assert row.proofs[1] is ImageProof.PIXELS


def test_the_page_has_no_other_rows() -> None:
    table = PAGE.read_text().partition(BEGIN)[2].partition(END)[0].strip().splitlines()
    assert table[:2] == list(heads())
    assert [line.split(" | ")[0].removeprefix("| ") for line in table[2:]] == list(SAMPLES)
    assert {cell for line in table[2:] for cell in line.strip("| ").split(" | ")[3:]} <= {REFUSED, LATE, PASSES}


def test_every_format_has_a_sample_or_shares_the_check_of_one() -> None:
    tried = {one.check for one in FORMATS for sample in SAMPLES.values() if f".{sample.suffix}" in one.suffixes}
    assert {one.name for one in FORMATS if one.check not in tried} == {"Cineon"}


def test_a_cineon_is_as_long_as_its_pixels(tmp_path: Path) -> None:
    def cineon(pixels: bytes) -> bytes:
        head = bytearray(1024)
        head[0:8] = struct.pack(">II", 0x802A5FD7, 1024)
        # A length of the file that ImageMagick gets wrong.
        head[20:24] = struct.pack(">I", 99999)
        head[193] = 3
        head[198:208] = struct.pack(">BBII", 10, 0, 96, 64)
        return bytes(head) + pixels

    path = tmp_path / "f_0001.cin"
    path.write_bytes(cineon(bytes(96 * 64 * 4)))
    facts = check_image(path)
    assert (facts.size, facts.channels, facts.depth) == ("96x64", "RGB", "10-bit")
    path.write_bytes(cineon(bytes(96 * 64 * 4 - 7)))
    with pytest.raises(DamagedOutput, match="is cut short: 7 bytes are missing"):
        check_image(path)


def test_no_suffix_belongs_to_two_formats_that_look_alike() -> None:
    for one in FORMATS:
        for other in FORMATS:
            if one is not other and set(one.suffixes) & set(other.suffixes):
                assert not set(one.signatures) & set(other.signatures)
    assert DAMAGES.keys() == {
        "cut to 70 %", "cut to 99 %", "20 % zeros inside", "empty", "other content", "garbage behind",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "channels", "depth"),
    [
        ("PNG 16-bit", "RGBA", "16-bit"),
        ("PNG grey", "grey", "8-bit"),
        ("OpenEXR zip", "RGBA", "half"),
        ("OpenEXR deep", "A, Z", "float"),
        ("TIFF LZW float", "RGB", "float"),
        ("TIFF deflate", "RGBA", "16-bit"),
        ("DPX 10-bit packed", "RGB", "10-bit"),
        ("DPX float", "RGB", "float"),
        ("SGI 16-bit", "RGBA", "16-bit"),
        ("AVIF 10-bit", "RGB", "10-bit"),
        ("JPEG", "YCbCr", "8-bit"),
        ("PHM", "RGB", "half"),
    ],
)
def test_channels_and_depth_are_read(name: str, channels: str, depth: str, tmp_path: Path, ffmpeg: str) -> None:
    facts = check_image(make_sample(name, tmp_path, ffmpeg))
    assert (facts.channels, facts.depth) == (channels, depth)


def test_layers_are_named(tmp_path: Path, ffmpeg: str) -> None:
    facts = check_image(make_sample("OpenEXR layers", tmp_path, ffmpeg))
    assert facts.channels.startswith("ViewLayer.Combined.A, ViewLayer.Combined.B")
    assert check_image(make_sample("OpenEXR multipart", tmp_path, ffmpeg)).channels == "RGBA; RGBA; RGBA"
