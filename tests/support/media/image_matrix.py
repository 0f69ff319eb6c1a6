"""What becomes of every format of image files with every damage: the table of `docs/media.md`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.media.image_samples import DAMAGES, make_sample

from activities.media.facts import DamagedOutput
from activities.media.images.check import check_image
from activities.media.images.facts import ImageProof

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "media.md"
BEGIN, END = "<!-- image matrix -->", "<!-- end of the image matrix -->"

REFUSED, LATE, PASSES = "refused", "with `check_pixels`", "passes"


@dataclass(frozen=True)
class Row:
    """What becomes of one variety of a format.

    Attributes:
        name: Of the variety.
        proofs: Of the sound file, as jobs are checked and with `check_pixels`.
        damages: For each damage: refused, refused with `check_pixels` alone, or passes.
    """

    name: str
    proofs: tuple[ImageProof, ImageProof]
    damages: dict[str, str]

    def __str__(self) -> str:
        return f"| {' | '.join([self.name, *map(str, self.proofs), *self.damages.values()])} |"


def measure_row(name: str, folder: Path, ffmpeg: str) -> Row:
    """Try one variety with all damages."""
    path = make_sample(name, folder, ffmpeg)
    data = path.read_bytes()
    proofs = (check_image(path).proof, check_image(path, pixels=True).proof)
    damages = {}
    for damage, spoil in DAMAGES.items():
        path.write_bytes(spoil(data))
        damages[damage] = REFUSED if _refuses(path, pixels=False) else LATE if _refuses(path, pixels=True) else PASSES
    return Row(name, proofs, damages)


def _refuses(path: Path, *, pixels: bool) -> bool:
    try:
        check_image(path, pixels=pixels)
    except DamagedOutput:
        return True
    return False


def heads() -> Iterator[str]:
    """Yield the first lines of the table."""
    yield f"| format | proven by | with `check_pixels` | {' | '.join(DAMAGES)} |"
    yield "|---" * (3 + len(DAMAGES)) + "|"
