"""Measure what the proof of image files by structure costs beside decoding the same files (`make bench-images`).

Both in one run and one process, each file read once before: a 4K OpenEXR of 50 MB and an HD PNG, of noise on waves.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402  # the root of the checkout is not on the path of a script that lies elsewhere
import OpenImageIO as oiio  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from activities.media.images.check import check_image  # noqa: E402

# What is promised: the proof takes at most this share of the time of decoding.
MOST_SHARE = {"4K OpenEXR": 0.3, "HD PNG": 0.1}


def picture(width: int, height: int, channels: int, noise: float) -> NDArray[np.float32]:
    """A picture that compresses about as a render does."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    random = np.random.default_rng(1)
    planes = []
    for channel in range(channels):
        waves = np.sin(columns / (90 + 20 * channel)) * np.cos(rows / 120) * 0.4 + 0.5
        planes.append(waves + random.random((height, width), np.float32) * noise)
    return np.stack(planes, axis=-1)


def write(path: Path, pixels: NDArray[np.float32], kind: str, **attributes: str) -> None:
    height, width, channels = pixels.shape
    spec = oiio.ImageSpec(width, height, channels, kind)
    for name, value in attributes.items():
        spec.attribute(name, value)
    out = oiio.ImageOutput.create(str(path))
    assert out is not None, oiio.geterror()
    assert out.open(str(path), spec), out.geterror()
    assert out.write_image(pixels), out.geterror()
    assert out.close(), out.geterror()


def decode(path: Path) -> None:
    """Decode a file as fast as OpenImageIO can: all threads, in its own types."""
    image = oiio.ImageInput.open(str(path))
    assert image is not None, oiio.geterror()
    spec = image.spec()
    assert image.read_image(0, 0, 0, spec.nchannels, spec.format) is not None, image.geterror()


def measure(path: Path, runs: int) -> tuple[float, float]:
    """Return the seconds of proof and of decoding: the best of some runs by turns, so that others' work tells less."""
    times: dict[Callable[[Path], object], list[float]] = {check_image: [], decode: []}
    for _ in range(runs):
        for work, seconds in times.items():
            began = time.perf_counter()
            work(path)
            seconds.append(time.perf_counter() - began)
    return min(times[check_image]), min(times[decode])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        files = {"4K OpenEXR": Path(folder) / "f_0001.exr", "HD PNG": Path(folder) / "f_0001.png"}
        write(files["4K OpenEXR"], picture(4096, 2160, 4, 1.0), "half", compression="zip")
        write(files["HD PNG"], picture(1920, 1080, 3, 0.02), "uint8")
        for name, path in files.items():
            proof, decoding = measure(path, options.runs)
            results[name] = {
                "size_bytes": path.stat().st_size,
                "proof_seconds": round(proof, 4),
                "decoding_seconds": round(decoding, 4),
                "share": round(proof / decoding, 3),
                "most_share": MOST_SHARE[name],
            }
    report = {"python": platform.python_version(), "machine": platform.machine(), "images": results}
    print(json.dumps(report, indent=1))
    return int(any(found["share"] > found["most_share"] for found in results.values()))


if __name__ == "__main__":
    sys.exit(main())
