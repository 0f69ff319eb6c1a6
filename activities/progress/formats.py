"""Which formats are read for which setting."""

from collections.abc import Callable

from activities.progress.blender import BlenderFormat
from activities.progress.counted import HeliosFormat, RemotionFormat
from activities.progress.ffmpeg import FfmpegFormat
from activities.progress.openjd import OpenJdFormat
from activities.progress.sign import Format
from longtake.models.policies import ProgressFormat

# In the order in which `auto` asks them; the first that knows a line has it.
_KNOWN: dict[ProgressFormat, Callable[[], Format]] = {
    ProgressFormat.BLENDER: BlenderFormat,
    ProgressFormat.FFMPEG: FfmpegFormat,
    ProgressFormat.OPENJD: OpenJdFormat,
    ProgressFormat.HELIOS: HeliosFormat,
    ProgressFormat.REMOTION: RemotionFormat,
}


def formats_of(setting: ProgressFormat) -> tuple[Format, ...]:
    """Return new formats for one render."""
    if setting is ProgressFormat.NONE:
        return ()
    return tuple(make() for known, make in _KNOWN.items() if setting in (ProgressFormat.AUTO, known))
