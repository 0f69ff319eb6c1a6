"""Folders and files whose names hold what templates, printf, filters and shells read otherwise, in any script."""

import asyncio
import json
import subprocess
import unicodedata
from pathlib import Path

import pytest
from support.farm import Farm

from longtake import JobState
from longtake.jobfile.loader import load_job

pytestmark = pytest.mark.integration

SOURCE = ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=64x36:r=24"]
FOLDERS = (
    *(
        "shot {v2}",
        "a{b",
        "100% final",
        "50%d",
        "%SHOT%",
        "#1 & co; $HOME",
        'it\'s "it"',
        "C:\\shots",
        "-i",
        "a,b=c:[d]",
    ),
    *("*?~", "مشهد", "עברית", "場面", unicodedata.normalize("NFD", "Ünïté ộ"), "\U0001f3ac \u200dx"),
)


async def test_a_job_below_folders_of_odd_names_renders_and_is_joined(farm: Farm, ffmpeg: str, tmp_path: Path) -> None:
    """Each name is part of the path of all outputs of two jobs: images with a sound, and video."""
    folder = farm.store.joinpath(*FOLDERS)
    folder.mkdir(parents=True)
    sound = [ffmpeg, "-nostdin", "-v", "error", "-f", "lavfi", "-i", "sine=f=440:d=1", str(folder / "sound é.wav")]
    await asyncio.to_thread(subprocess.run, sound, check=True)
    frames = {"first": 1, "count": 4, "per_chunk": 2}
    options = ["-frames:v", "{count}"]
    images = {
        "frames": frames,
        "fps": 24,
        "command": [*SOURCE, *options, "-start_number", "{start}", "{output}"],
        "chunk_output": "f %é/f_{frame:04}.png",
        "output": "фильм 50%.mp4",
        "audio": "sound é.wav",
        "inputs": ["sound é.wav"],
    }
    video = {
        "frames": frames,
        "fps": 24,
        "command": [*SOURCE, *options, "{output}"],
        "chunk_output": "c/{{x}} {chunk}.mp4",
        "output": "'q' [{{film}}].mp4",
    }
    for name, document in (("images", images), ("video", video)):
        file = folder / f"{name} 100%.json"
        file.write_text(json.dumps(document))
        status = await farm.run(load_job(file))

        assert status.state is JobState.COMPLETED, status.error
        assert status.result is not None
        assert status.result.frames == 4
        fetched = tmp_path / "fetched 100% {x}"
        await farm.render.job(status.id).stored.fetch(fetched)
        assert (fetched / str(document["output"]).replace("{{", "{").replace("}}", "}")).is_file()
    assert sorted(path.name for path in (folder / "f %é").iterdir()) == [f"f_{frame:04}.png" for frame in range(1, 5)]
    assert sorted(path.name for path in (folder / "c").iterdir()) == ["{x} 0.mp4", "{x} 1.mp4"]
    assert (folder / "фильм 50%.mp4").is_file()
    assert (folder / "'q' [{film}].mp4").is_file()
    # Nothing was written elsewhere, as by a pattern that was read for another.
    assert [path.name for path in farm.store.iterdir()] == [FOLDERS[0]]
