"""Try what media files go through, and print what becomes of them (`make media-matrix`).

Two tables: every format of image files with every damage, and chunks of every codec in every container of films.
"""

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "client"), str(ROOT / "tests")]

import imageio_ffmpeg  # noqa: E402  # the root of the checkout is not on the path of a script that lies elsewhere
from support.media import film_matrix, image_matrix  # noqa: E402
from support.media.image_samples import SAMPLES  # noqa: E402

TABLES = (
    (image_matrix, SAMPLES, image_matrix.measure_row),
    (film_matrix, film_matrix.CODECS, film_matrix.measure_codec),
)


def main() -> None:
    """Print the tables; with `--write`, put them into docs/media.md too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the tables into docs/media.md")
    options = parser.parse_args()
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    for matrix, names, measure in TABLES:
        lines = list(matrix.heads())
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                lines.append(str(measure(name, Path(folder), ffmpeg)))
        print("\n".join(lines))
        if options.write:
            before, _, rest = image_matrix.PAGE.read_text().partition(matrix.BEGIN)
            _, _, after = rest.partition(matrix.END)
            image_matrix.PAGE.write_text("\n".join([before + matrix.BEGIN, *lines, matrix.END + after]))


if __name__ == "__main__":
    main()
