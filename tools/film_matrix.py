"""Join chunks of every codec in every container of films, and print what becomes of them (`make media-matrix`)."""

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "client"), str(ROOT / "tests")]

import imageio_ffmpeg  # noqa: E402  # the root of the checkout is not on the path of a script that lies elsewhere
from support.media.film_matrix import BEGIN, CODECS, END, heads, measure_codec  # noqa: E402
from support.media.image_matrix import PAGE  # noqa: E402


def main() -> None:
    """Print the table; with `--write`, put it into docs/media.md too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the table into docs/media.md")
    options = parser.parse_args()
    lines = list(heads())
    for name in CODECS:
        with tempfile.TemporaryDirectory() as folder:
            lines.append(str(measure_codec(name, Path(folder), imageio_ffmpeg.get_ffmpeg_exe())))
    print("\n".join(lines))
    if options.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        PAGE.write_text("\n".join([before + BEGIN, *lines, END + after]))


if __name__ == "__main__":
    main()
