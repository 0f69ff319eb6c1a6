"""Program that decodes image files: one JSON request a line on stdin, one JSON answer on stdout.

A process of its own, because the decoders are C and C++ and the files are somebody else's: a file that makes one crash,
fill the memory or never end takes this process with it and not the worker. Started with `-I` and an empty environment,
so it imports nothing but the standard library, PyAV and OpenImageIO (the extra `images`), where it is installed.

A request has `path`, `reader` (the name of OpenImageIO's) and `demuxer` (libav's). An answer has `outcome`: `decoded`,
`damaged`, or `unable` where none of the decoders knows such a file; and `reason`.
"""

import json
import os
import re
import resource
import signal
import sys
from types import ModuleType

# A picture of 8K with forty channels takes 5 s here; one that takes longer is no picture.
_MOST_CPU_SECONDS = 120.0
# Pictures are read in bands; what decoders hold of one whole picture besides is below this, up to 16K in float RGBA.
_MOST_MEMORY_BYTES = 6 << 30
_BAND_BYTES = 64 << 20

# OpenImageIO says in words that it does not know a variety of a format.
_UNKNOWN = re.compile(r"not (yet )?(supported|implemented|configured)|unsupported|unknown|no decoder", re.IGNORECASE)
# These readers decode as they open a file. With others, whose structure was found sound, a file that cannot be opened
# is of a variety that they do not know.
_DECODES_TO_OPEN = frozenset({"gif", "jpeg2000", "jpegxl", "webp"})

# libav calls sound files of these damaged: animations, and TGA of one bit.
_MISREAD_BY_LIBAV = frozenset({"targa", "webp"})

Answer = dict[str, str]


def _import_oiio() -> ModuleType | None:
    try:
        import OpenImageIO  # noqa: PLC0415 (optional, and in this process alone)
    except ImportError:
        return None
    # One thread each: a worker decodes as many files at once as it has attempts.
    OpenImageIO.attribute("threads", 1)
    OpenImageIO.attribute("exr_threads", -1)
    OpenImageIO.attribute("try_all_readers", 0)
    return OpenImageIO


def _decode_by_oiio(oiio: ModuleType, path: str, reader: str) -> Answer:
    """Decode all subimages and levels of a file band by band."""
    image = oiio.ImageInput.open(path)
    if image is None:
        return _refuse(oiio.geterror(), is_damage=reader in _DECODES_TO_OPEN)
    if image.format_name() != reader:
        return {"outcome": "unable", "reason": f"OpenImageIO takes it for {image.format_name()}"}
    subimage = 0
    while image.seek_subimage(subimage, 0):
        level = 0
        while image.seek_subimage(subimage, level):
            is_read = _read_bands(image, image.spec(), subimage, level)
            reason = image.geterror()
            if reason or not is_read:
                return _refuse(reason, is_damage=True)
            level += 1
        # What it says of the level that is not there.
        image.geterror()
        subimage += 1
    return {"outcome": "decoded", "reason": ""} if subimage else _refuse(image.geterror(), is_damage=False)


def _refuse(reason: str, *, is_damage: bool) -> Answer:
    is_damage = is_damage and _UNKNOWN.search(reason) is None
    return {"outcome": "damaged" if is_damage else "unable", "reason": reason or "its pixels cannot be read"}


def _read_bands(image, spec, subimage: int, level: int) -> bool:  # type: ignore[no-untyped-def]  # of an optional module
    """Read all pixels and throw them away; tell whether all could be read."""
    line_bytes = max(1, spec.scanline_bytes(True))
    step = max(1, _BAND_BYTES // line_bytes)
    if spec.tile_width:
        step = max(spec.tile_height, step // spec.tile_height * spec.tile_height)
    end, channels = spec.y + spec.height, spec.nchannels
    depth = (spec.z, spec.z + max(1, spec.depth))
    for top in range(spec.y, end, step):
        bottom = min(end, top + step)
        if spec.deep and spec.tile_width:
            band = image.read_native_deep_tiles(
                subimage, level, spec.x, spec.x + spec.width, top, bottom, *depth, 0, channels
            )
        elif spec.deep:
            band = image.read_native_deep_scanlines(subimage, level, top, bottom, spec.z, 0, channels)
        elif spec.tile_width:
            band = image.read_tiles(
                subimage, level, spec.x, spec.x + spec.width, top, bottom, *depth, 0, channels, spec.format
            )
        else:
            band = image.read_scanlines(subimage, level, top, bottom, spec.z, 0, channels, spec.format)
        if band is None:
            return False
    return True


def _decode_by_libav(path: str, demuxer: str) -> Answer:
    """Decode the first picture of a file."""
    import av  # noqa: PLC0415 (half a second that a process for OpenImageIO alone need not take)

    options = {"protocol_whitelist": "file", "err_detect": "explode"}
    if demuxer == "image2":
        options["pattern_type"] = "none"
    try:
        with av.open(f"file:{os.path.abspath(path)}", format=demuxer, options=options) as container:
            stream = container.streams.video[0]
            if stream.codec_context is None:
                return {"outcome": "unable", "reason": "libav has no decoder for it"}
            stream.codec_context.options = {"err_detect": "explode"}
            for frame in container.decode(stream):
                if not frame.is_corrupt:
                    return {"outcome": "decoded", "reason": ""}
    except (av.error.PatchWelcomeError, av.error.DecoderNotFoundError, av.error.DemuxerNotFoundError, PermissionError):
        return {"outcome": "unable", "reason": "libav does not know this variety of the format"}
    except av.error.FFmpegError as error:
        return {"outcome": "damaged", "reason": error.strerror or "libav cannot decode it"}
    return {"outcome": "damaged", "reason": "no picture comes out"}


def _decode(oiio: ModuleType | None, path: str, reader: str, demuxer: str) -> Answer:
    answer: Answer = {"outcome": "unable", "reason": "no decoder for this format is installed"}
    if oiio is not None and reader:
        answer = _decode_by_oiio(oiio, path, reader)
    if answer["outcome"] == "unable" and demuxer:
        answer = _decode_by_libav(path, demuxer)
        if answer["outcome"] == "damaged" and reader in _MISREAD_BY_LIBAV:
            answer["outcome"] = "unable"
    return answer


def main() -> None:
    """Answer requests until stdin ends."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY_BYTES, _MOST_MEMORY_BYTES))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    oiio = _import_oiio()
    for request in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, _MOST_CPU_SECONDS)
        asked = json.loads(request)
        try:
            answer = _decode(oiio, asked["path"], asked["reader"], asked["demuxer"])
        except MemoryError:
            answer = {"outcome": "unable", "reason": "it takes more memory than a picture may"}
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
