"""Try every format of image files with every damage, and print what becomes of it (`make media-matrix`)."""

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import imageio_ffmpeg  # noqa: E402  # the root of the checkout is not on the path of a script that lies elsewhere
from support.media.image_matrix import BEGIN, END, PAGE, heads, measure_row  # noqa: E402
from support.media.image_samples import SAMPLES  # noqa: E402


def main() -> None:
    """Print the table; with `--write`, put it into docs/media.md too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the table into docs/media.md")
    options = parser.parse_args()
    lines = list(heads())
    with tempfile.TemporaryDirectory() as folder:
        for name in SAMPLES:
            lines.append(str(measure_row(name, Path(folder), imageio_ffmpeg.get_ffmpeg_exe())))
    print("\n".join(lines))
    if options.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        PAGE.write_text("\n".join([before + BEGIN, *lines, END + after]))


if __name__ == "__main__":
    main()
