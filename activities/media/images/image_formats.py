"""The table of image formats: how files of each are named and begin, how their structure is checked, what decodes them.

`docs/media.md` shows what each check finds.
"""

from collections.abc import Callable
from dataclasses import dataclass

from activities.media.images.boxes import check_avif, check_jpeg_2000, check_jpeg_xl
from activities.media.images.chunk_formats import check_gif, check_iff, check_png, check_webp
from activities.media.images.exr import check_exr
from activities.media.images.image_file import ImageFile, Structure
from activities.media.images.jpeg import check_jpeg
from activities.media.images.rasters import (
    check_bmp,
    check_cineon,
    check_dpx,
    check_portable_map,
    check_qoi,
    check_sun_raster,
    check_zfile,
)
from activities.media.images.run_lengths import check_radiance, check_sgi, check_tga
from activities.media.images.tiff import check_tiff


@dataclass(frozen=True)
class ImageFormat:
    """One format of image files.

    Attributes:
        name: What people call it.
        suffixes: Extensions of its files.
        signatures: What its files begin with; empty where nothing tells.
        check: Checks the structure; raises `ValueError` with what is wrong after the file's name.
        reader: OpenImageIO's name of its reader; empty where its wheel has none.
        demuxer: What libav opens it by; empty where its decoder refuses sound files or passes cut ones.
        signature_offset: Where the signature stands.
        ends_last: Whether the last thing that is written of a file says that it is whole.
    """

    name: str
    suffixes: tuple[str, ...]
    signatures: tuple[bytes, ...]
    check: Callable[[ImageFile], Structure]
    reader: str = ""
    demuxer: str = ""
    signature_offset: int = 0
    ends_last: bool = False

    @property
    def article_and_name(self) -> str:
        """The name with its article, for sentences."""
        return f"{'an' if self.name[0] in 'AEIO' or self.name.startswith('SGI') else 'a'} {self.name}"

    def fits(self, head: bytes) -> bool:
        """Tell whether a file that begins so may be of this format."""
        return not self.signatures or head[self.signature_offset :].startswith(self.signatures)


FORMATS = (
    ImageFormat("PNG", (".png", ".apng"), (b"\x89PNG\r\n\x1a\n",), check_png, "png", "image2", ends_last=True),
    ImageFormat(
        "JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), (b"\xff\xd8\xff",), check_jpeg, "jpeg", "image2", ends_last=True
    ),
    ImageFormat("JPEG-LS", (".jls",), (b"\xff\xd8\xff",), check_jpeg, "", "image2", ends_last=True),
    # maketx writes textures (.tx) as TIFF, and as OpenEXR where it is told to.
    ImageFormat(
        "TIFF",
        (".tif", ".tiff", ".tx"),
        (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"),
        check_tiff,
        "tiff",
        ends_last=True,
    ),
    ImageFormat(
        "OpenEXR", (".exr", ".sxr", ".mxr", ".tx"), (b"\x76\x2f\x31\x01",), check_exr, "openexr", ends_last=True
    ),
    ImageFormat("DPX", (".dpx",), (b"SDPX", b"XPDS"), check_dpx, "dpx"),
    ImageFormat("Cineon", (".cin",), (b"\x80\x2a\x5f\xd7", b"\xd7\x5f\x2a\x80"), check_cineon, "cineon"),
    ImageFormat("TGA", (".tga", ".targa", ".icb", ".vda", ".vst"), (), check_tga, "targa", "image2"),
    ImageFormat("BMP", (".bmp", ".dib"), (b"BM",), check_bmp, "bmp", "image2"),
    ImageFormat("Radiance", (".hdr", ".rgbe"), (b"#?",), check_radiance, "hdr", "image2"),
    ImageFormat(
        "JPEG 2000",
        (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".jph", ".jhc"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
        check_jpeg_2000,
        "jpeg2000",
        "image2",
    ),
    ImageFormat("SGI", (".sgi", ".rgb", ".rgba", ".bw", ".int", ".inta"), (b"\x01\xda",), check_sgi, "sgi", "image2"),
    ImageFormat("IFF", (".iff",), (b"FORM", b"FOR4", b"FOR8"), check_iff, "iff"),
    ImageFormat("WebP", (".webp",), (b"RIFF",), check_webp, "webp", "image2"),
    ImageFormat("GIF", (".gif",), (b"GIF87a", b"GIF89a"), check_gif, "gif", "gif", ends_last=True),
    ImageFormat(
        "portable map",
        (".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".pfm", ".phm"),
        (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"P7", b"PF", b"Pf", b"PH", b"Ph"),
        check_portable_map,
        "pnm",
        "image2",
    ),
    ImageFormat("JPEG XL", (".jxl",), (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"), check_jpeg_xl, "jpegxl", "image2"),
    ImageFormat("AVIF", (".avif", ".avifs"), (b"ftyp",), check_avif, "", "mov", signature_offset=4),
    ImageFormat("HEIF", (".heic", ".heif", ".hif"), (b"ftyp",), check_avif, "", "mov", signature_offset=4),
    ImageFormat("Sun raster", (".ras", ".sun"), (b"\x59\xa6\x6a\x95",), check_sun_raster, "", "image2"),
    ImageFormat("QOI", (".qoi",), (b"qoif",), check_qoi, "", "image2"),
    ImageFormat("zfile", (".zfile",), (b"\xab\x67\x08\x2f", b"\x2f\x08\x67\xab", b"\x1f\x8b"), check_zfile, "zfile"),
)


# Names of the formats whose structure ends with what is written last.
ENDS_LAST = frozenset(one.name for one in FORMATS if one.ends_last)


def find_formats(suffix: str) -> tuple[ImageFormat, ...]:
    """Find the formats whose files have an extension; empty where none is known."""
    return tuple(one for one in FORMATS if suffix.lower() in one.suffixes)


def find_format_by_content(head: bytes) -> ImageFormat | None:
    """Find the format whose files begin so; None where none is known."""
    return next((one for one in FORMATS if one.signatures and one.fits(head)), None)
