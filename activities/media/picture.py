"""Pictures of kinds whose structure is not followed here: libav decodes them."""

import os
from pathlib import Path

import av


def check_decodes(path: Path) -> tuple[int, int]:
    """Returns width and height of a picture that was decoded, or zeros where libav knows no decoder.

    Raises:
        ValueError: Decoding failed.
    """
    options = {"protocol_whitelist": "file", "pattern_type": "none", "err_detect": "explode"}
    try:
        with av.open(f"file:{os.path.abspath(path)}", format="image2", options=options) as container:
            stream = container.streams.video[0]
            stream.codec_context.options = {"err_detect": "explode"}
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    break
                return frame.width, frame.height
    except (av.error.PatchWelcomeError, av.error.DecoderNotFoundError):
        return 0, 0
    except av.error.FFmpegError as error:
        raise ValueError(f"cannot be decoded: {error.strerror}") from error
    raise ValueError("cannot be decoded: it is cut short or damaged")
