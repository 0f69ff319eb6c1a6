"""Decoding in a process of its own: what damages, crashes or hangs it does no harm to the worker."""

import re
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.media.image_samples import SAMPLES, make_sample

from activities.media.facts import DamagedOutput, JoinStopped
from activities.media.images import decoder_main
from activities.media.images.check import check_image
from activities.media.images.decoder import Decoded, DecodeOutcome, DecoderPool, pool
from activities.media.images.facts import ImageProof

DECODED = Decoded(DecodeOutcome.DECODED)


def pool_of(script: str) -> DecoderPool:
    return DecoderPool([sys.executable, "-I", "-c", script])


@pytest.fixture
def sample(tmp_path: Path, ffmpeg: str) -> Path:
    return make_sample("PNG 16-bit", tmp_path, ffmpeg)


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[DecoderPool]:
    """The decoder with a limit of one second."""
    source = Path(decoder_main.__file__).read_text()
    script = source.replace("_MOST_CPU_SECONDS = 120.0", "_MOST_CPU_SECONDS = 1.0")
    assert script != source
    path = tmp_path / "limited_decoder.py"
    path.write_text(script)
    decoders = DecoderPool([sys.executable, "-I", str(path)])
    yield decoders
    decoders.close()


def test_a_process_is_used_again(sample: Path) -> None:
    decoders = DecoderPool([sys.executable, "-I", decoder_main.__file__])
    assert decoders.decode(sample, "png", "image2") == DECODED
    (first,) = decoders._idle
    assert decoders.decode(sample, "png", "image2") == DECODED
    assert decoders._idle == [first]
    decoders.close()
    assert first.returncode is not None


def test_pixels_that_cannot_be_decoded_are_damage(sample: Path) -> None:
    data = sample.read_bytes()
    sample.write_bytes(data[: len(data) // 2])
    decoded = pool.decode(sample, "png", "image2")
    assert decoded.outcome is DecodeOutcome.DAMAGED
    assert "PNG" in decoded.reason


def test_libav_decodes_what_openimageio_does_not_know(tmp_path: Path, ffmpeg: str) -> None:
    assert pool.decode(make_sample("AVIF", tmp_path, ffmpeg), "", "mov") == DECODED


def test_a_format_without_decoder_is_neither_damaged_nor_decoded(sample: Path) -> None:
    assert pool.decode(sample, "", "").outcome is DecodeOutcome.UNABLE


@pytest.mark.parametrize("script", ["import os; input(); os.abort()", "", "input(); print('half', end='', flush=True)"])
def test_a_decoder_that_crashes_proves_nothing(script: str, sample: Path) -> None:
    decoders = pool_of(script)
    assert decoders.decode(sample, "png", "image2").outcome is DecodeOutcome.UNABLE
    facts = check_image(sample, pixels=True, decoders=decoders)
    assert facts.proof is ImageProof.STRUCTURE


def test_without_openimageio_no_sound_file_is_called_damaged(tmp_path: Path, ffmpeg: str) -> None:
    main = decoder_main.__file__
    hidden = f"import runpy, sys; sys.modules['OpenImageIO'] = None; runpy.run_path({main!r}, run_name='__main__')"
    decoders = pool_of(hidden)
    proofs = {
        name: check_image(make_sample(name, tmp_path, ffmpeg), pixels=True, decoders=decoders).proof for name in SAMPLES
    }
    by_structure = {name for name, proof in proofs.items() if proof is not ImageProof.PIXELS}
    assert {name for name in by_structure if not re.match(r"OpenEXR|.*TIFF|\.tx|DPX|IFF|JPEG XL|zfile", name)} == set()
    assert proofs["DPX float"] is ImageProof.STRUCTURE
    assert proofs["JPEG XL code stream"] is ImageProof.CONTENT


def test_a_compression_that_no_decoder_knows_is_no_damage(tmp_path: Path, ffmpeg: str) -> None:
    path = make_sample("TIFF raw", tmp_path, ffmpeg)
    compression = struct.pack("<HHII", 259, 3, 1, 1)
    data = path.read_bytes()
    assert data.count(compression) == 1
    # Zstandard, by which the pixels might have been packed.
    path.write_bytes(data.replace(compression, struct.pack("<HHII", 259, 3, 1, 50000)))
    assert check_image(path, pixels=True).proof is ImageProof.STRUCTURE


def test_what_a_decoder_says_is_quoted_in_one_line(sample: Path) -> None:
    script = "import json; input(); print(json.dumps({'outcome': 'damaged', 'reason': 'no end\\nmore'}), flush=True)"
    with pytest.raises(DamagedOutput, match=r"^f_0001\.png cannot be decoded: no end$"):
        check_image(sample, pixels=True, decoders=pool_of(script))


def test_a_file_that_takes_too_much_cpu_time_ends_its_process_alone(
    limited: DecoderPool, tmp_path: Path, ffmpeg: str
) -> None:
    big = tmp_path / "big.ppm"
    with big.open("wb") as file:
        file.write(b"P6 60000 60000 65535\n")
        file.truncate(21 + 60000 * 60000 * 6)
    assert limited.decode(big, "pnm", "").outcome is DecodeOutcome.UNABLE
    assert limited.decode(make_sample("PPM", tmp_path, ffmpeg), "pnm", "") == DECODED


def test_a_stop_ends_a_decoding(sample: Path) -> None:
    stop = threading.Event()
    decoders = pool_of("input(); import time; time.sleep(60)")
    threading.Timer(0.3, stop.set).start()
    began = time.monotonic()
    with pytest.raises(JoinStopped):
        decoders.decode(sample, "png", "image2", stop)
    assert time.monotonic() - began < 30
    assert decoders._idle == []


def test_a_decoder_sees_nothing_of_the_environment(sample: Path) -> None:
    script = "import os, json; input(); print(json.dumps({'outcome': 'damaged', 'reason': ' '.join(os.environ)}))"
    seen = set(pool_of(f"{script}; import sys; sys.stdout.flush()").decode(sample, "", "").reason.split())
    assert seen <= {"LC_CTYPE"}


def test_a_decoder_ends_with_its_worker() -> None:
    process = pool._take()
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=30) == 0
    assert process.stdout is not None
    process.stdout.close()
