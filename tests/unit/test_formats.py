"""Progress as renderers print it, also in captured output."""

import shutil
import subprocess
from pathlib import Path

import pytest
from support.renderers.progress_printer import ProgressPrinter

from activities.progress.reader import Reading
from longtake.models.policies import ProgressFormat

PRINTED = Path(__file__).parent / "printed"


BOTH = pytest.mark.parametrize("format", [ProgressFormat.AUTO, ProgressFormat.BLENDER])


@BOTH
def test_cycles_of_blender_3_4(tmp_path: Path, format: ProgressFormat) -> None:
    captured = (PRINTED / "blender-3.4-cycles.txt").read_bytes()
    readings = ProgressPrinter(tmp_path, format, start=1, stop=4).readings(captured)

    assert sorted({reading.frames_done for reading in readings}) == [0, 1, 2, 3]
    told = [reading.message for reading in readings if reading.frames_done == 1]
    assert told == [
        *("frame 1", "frame 2", "frame 2, sample 0 of 4", "frame 2, sample 1 of 4, 0:00 to go"),
        *("frame 2, sample 4 of 4", "frame 2"),
    ]


@BOTH
def test_a_video_of_workbench_of_blender_3_4(tmp_path: Path, format: ProgressFormat) -> None:
    captured = (PRINTED / "blender-3.4-workbench-video.txt").read_bytes()
    readings = ProgressPrinter(tmp_path, format, start=5, stop=8).readings(captured)

    assert [reading.frames_done for reading in readings] == [0, 1, 2, 3]


BLENDERS = {
    "2.7": (
        "Fra:340 Mem:8.72M (0.00M, Peak 14.19M) | Time:00:00.33 | Remaining:00:12.61 | Mem:1.43M, Peak:2.00M | Scene, "
        "RenderLayer | Path Tracing Tile 3/64, Sample 64/128\n",
        0,
        "frame 340, sample 64 of 128, 0:12 to go",
    ),
    "2.9, tiles": (
        "Fra:340 Mem:8.72M (0.00M, Peak 14.19M) | Time:00:00.33 | Scene, View | Rendered 3/64 Tiles\n",
        0,
        "frame 340, tile 3 of 64",
    ),
    "2.9, tiles and samples": (
        "Fra:340 Mem:8.7M (Peak 14.19M) | Time:00:00.33 | Mem:1M, Peak:2M | Scene, View | Rendered 3/64 Tiles, "
        "Sample 4/128\n",
        0,
        "frame 340, sample 4 of 128",
    ),
    "4, Cycles": (
        "Fra:341 Mem:12.19M (Peak 12.19M) | Time:00:00.08 | Remaining:01:02:03.36 | Mem:2.74M, Peak:2.74M | Scene, "
        "ViewLayer | Sample 1/16\n",
        1,
        "frame 341, sample 1 of 16, 1:02:03 to go",
    ),
    "4, Eevee": (
        "Fra:341 Mem:32.79M (Peak 33.86M) | Time:00:00.14 | Rendering 1 / 64 samples\n",
        1,
        "frame 341, sample 1 of 64",
    ),
    "4, saved": (
        "Fra:341 Mem:1M (Peak 1M)\nSaved: '/shots/sc010/f_0341.png'\nTime: 00:00.96 (Saving: 00:00.34)\n",
        2,
        "frame 341",
    ),
    "4, Windows": ("Saved: 'C:\\shots\\sc010\\f_0341.png'\n", 2, ""),
    "4, stereo": (
        "Fra:341 Mem:1M (Peak 1M)\nSaved: '/shots/f_0341_L.png'\nSaved: '/shots/v2_0341_R2.png'\n",
        2,
        "frame 341",
    ),
    "4, a name with a dash": ("Saved: '/shots/f-0341.png'\n", 2, ""),
    "3, skipped": ('skipping existing frame "/shots/f_0341.png"\n', 2, ""),
    "3, time alone": ("Fra:341 Mem:1M (Peak 1M)\n Time: 00:00.96 (Saving: 00:00.34)\n", 2, "frame 341"),
    "5, saved": ("00:00.327  render           | Saved: '/shots/f_0341.png'\n", 2, ""),
    "5, frame": ("00:00.327  render           | Fra: 341 | Mem: 12M | Sample 2/16\n", 1, "frame 341, sample 2 of 16"),
    "5, time": (
        "00:00.300  render           | Fra: 341\n00:00.327  render           | Time: 00:01.06 (Saving: 00:00.02)\n",
        2,
        "frame 341",
    ),
    "5, skipped": ('00:00.327  render           | Skipping existing frame "/shots/f_0341.png"\n', 2, ""),
    "5, after an hour": ("01:00:00.327  render           | Append frame 341\n", 2, ""),
    "video": ("Append frame 341\n", 2, ""),
    "frames of another range": ("Fra:12 Mem:1M\nFra:9999 Mem:1M\nSaved: '/shots/f_9999.png'\n", 0, "frame 9999"),
    "no number in the name": ("Saved: '/shots/still.png'\n", 0, ""),
    "a render without name": ("Saved: ''\n", 0, ""),
}


@BOTH
@pytest.mark.parametrize("sample", BLENDERS)
def test_blender_of_each_age(tmp_path: Path, sample: str, format: ProgressFormat) -> None:
    printed, frames, message = BLENDERS[sample]
    reading = ProgressPrinter(tmp_path, format, start=340, stop=350).prints(printed)

    assert reading == Reading(frames, message)


def test_frames_below_zero(tmp_path: Path) -> None:
    blender = ProgressPrinter(tmp_path, start=-5, stop=5)

    assert blender.prints("Fra:-3 Mem:1M (Peak 1M)\n").frames_done == 2
    assert blender.prints("Saved: '/shots/f_-0003.png'\n").frames_done == 3


@pytest.mark.skipif(shutil.which("blender") is None, reason="Blender is not installed; its captured output is read")
def test_the_blender_of_this_host(tmp_path: Path) -> None:
    script = (
        "import bpy; scene = bpy.context.scene; scene.render.resolution_x = scene.render.resolution_y = 16; "
        "scene.render.engine = 'CYCLES'; scene.cycles.samples = 1; scene.cycles.use_denoising = False"
    )
    blender = ProgressPrinter(tmp_path, start=10, stop=13)
    command = ["blender", "--background", "-noaudio", "--factory-startup", "--python-expr", script]
    with blender.log.open("wb") as log:
        subprocess.run(
            [*command, "-o", f"{tmp_path}/f_####", "-s", "10", "-e", "12", "-a"],
            stdout=log,
            stderr=log,
            check=True,
            timeout=120,
        )

    assert blender.reader.read(ended=True) == Reading(3, "frame 12")


@pytest.mark.parametrize("format", [ProgressFormat.AUTO, ProgressFormat.FFMPEG])
@pytest.mark.parametrize("options", [("-progress", "pipe:1", "-nostats", "-v", "error"), ("-v", "info", "-stats")])
def test_ffmpeg_itself(ffmpeg: str, tmp_path: Path, options: tuple[str, ...], format: ProgressFormat) -> None:
    log = ProgressPrinter(tmp_path, format, stop=60)
    source = ("-f", "lavfi", "-i", "testsrc2=s=64x64:r=30")
    with log.log.open("wb") as file:
        subprocess.run(
            [ffmpeg, "-nostdin", "-hide_banner", *options, *source, "-frames:v", "60", str(tmp_path / "film.mp4")],
            stdout=file,
            stderr=file,
            check=True,
            timeout=120,
        )
    reading = log.reader.read(ended=True)

    assert reading.frames_done == 60
    assert reading.message.startswith("speed ")
    assert reading.message.endswith("x")


@pytest.mark.parametrize("format", [ProgressFormat.AUTO, ProgressFormat.FFMPEG])
def test_ffmpeg_before_its_first_frame_and_of_sound_alone(tmp_path: Path, format: ProgressFormat) -> None:
    log = ProgressPrinter(tmp_path, format)
    block = "frame=0\nfps=0.00\nstream_0_0_q=0.0\nbitrate=N/A\nout_time_us=N/A\nspeed=N/A\nprogress=continue\n"

    assert log.prints(block) == Reading()
    assert log.prints("bitrate= 706.2kbits/s\nout_time_ms=1000000\nspeed= 233x\nprogress=end\n") == Reading(
        0, "speed 233x"
    )
    assert (
        log.prints("frame=   12 fps=0.0 q=28.0 size=       0KiB time=N/A bitrate=N/A speed=1.22x\r").frames_done == 12
    )


OPENJD = [ProgressFormat.AUTO, ProgressFormat.OPENJD]


@pytest.mark.parametrize("format", OPENJD)
def test_directives_of_open_job_description(tmp_path: Path, format: ProgressFormat) -> None:
    log = ProgressPrinter(tmp_path, format, start=100, stop=300)

    assert log.prints("openjd_progress: 12.5\n") == Reading(25)
    assert log.prints("openjd_status: Loading \x1b[1mtextures\x1b[0m\n") == Reading(25, "Loading textures")
    assert log.prints("openjd_env: A=B\nopenjd_unset_env: A\nopenjd_session_runtime_loglevel: info\n").frames_done == 25
    odd = "openjd_progress: 101\nopenjd_progress: nan\nopenjd_progress: -1\nopenjd_progress:50\n openjd_progress: 60\n"
    assert log.prints(odd) == Reading(25, "Loading textures")
    assert log.prints("openjd_progress: 100\n").frames_done == 200


@pytest.mark.parametrize("format", OPENJD)
def test_an_adaptor_that_says_it_failed_is_heard_first_and_for_ever(tmp_path: Path, format: ProgressFormat) -> None:
    log = ProgressPrinter(tmp_path, format)
    log.prints("openjd_fail: No licence\nopenjd_fail: another\n")

    assert log.prints("openjd_fail: later\n").fatal == "openjd_fail: No licence"


@pytest.mark.parametrize(
    ("format", "printed"),
    [
        (ProgressFormat.AUTO, "Rendered 31/300\n"),
        (ProgressFormat.REMOTION, "Rendered 30/300\rRendered 31/300\r"),
        (ProgressFormat.REMOTION, "Rendered 31/300, time remaining: 12s\n"),
        (ProgressFormat.AUTO, "Progress: Rendered 31 / 300 frames\n"),
        (ProgressFormat.HELIOS, "Progress: Rendered 31 / 300 frames\n"),
        (ProgressFormat.AUTO, "\x1b[32m✔\x1b[0m Rendered 31/300\n"),
    ],
)
def test_remotion_and_helios(tmp_path: Path, format: ProgressFormat, printed: str) -> None:
    assert ProgressPrinter(tmp_path, format, start=600, stop=900).prints(printed) == Reading(31, "rendered 31 of 300")


def test_a_count_of_something_else_is_a_share_of_the_frames(tmp_path: Path) -> None:
    assert ProgressPrinter(tmp_path, stop=50).prints("Rendered 30/300\nRendered 1/0\n").frames_done == 5


@pytest.mark.parametrize(
    "printed",
    [
        "Video: 24 fps, 640x360, 12 frames dropped\n",
        "[libx264 @ 0x55] frame I:1     Avg QP:29.50  size:   447\n",
        "keyframe=12\n",
        "Rendered 3/64 Tiles\n",
        "Not Rendered 5/10\n",
        "frame=99999999999999999999999\n",
        "Fra:" + "9" * 10_000 + "\n",
        "",
    ],
)
def test_what_is_no_progress(tmp_path: Path, printed: str) -> None:
    assert ProgressPrinter(tmp_path).prints(printed) == Reading()


TRACEBACK = (
    'Traceback (most recent call last):\n  File "/shots/scene.py", line 37, in <module>\n    build(*given)\n'
    "RuntimeError: the rig could not be loaded\n"
)
ADD_ON = (
    "Exception in module register(): '/addons/io_mesh_old/__init__.py'\nTraceback (most recent call last):\n"
    '  File "/usr/share/blender/scripts/modules/addon_utils.py", line 335, in enable\n    mod.register()\n'
    "AttributeError: module 'bpy' has no attribute 'old'\n"
)
BANNER, FRAME = "Blender 4.2.0 (hash a51f1bfb4 built 2024-07-16 02:30:35)\n", "Fra:12 Mem:1M (Peak 1M)\n"


CAPTURED = (PRINTED / "blender-3.4-python-error.txt").read_text()


@pytest.mark.parametrize("printed", [CAPTURED, BANNER + TRACEBACK + FRAME, TRACEBACK + BANNER, TRACEBACK + FRAME])
@BOTH
def test_an_exception_in_a_script_of_blender_makes_the_try_fail(
    tmp_path: Path, format: ProgressFormat, printed: str
) -> None:
    readings = ProgressPrinter(tmp_path, format, start=1, stop=20).readings(printed)

    assert readings[-1].fatal == "RuntimeError: the rig could not be loaded"


@pytest.mark.parametrize(
    "line",
    [
        'Error: Python: OSError: Python file "/shots/nosuch.py" could not be opened: No such file or directory',
        "Error: text block not found nosuch.",
        "Can't find scene: 'Nope' in file: ''",
        "Error: Format from '-F / --render-format' not known or not compiled in this release.",
        "Error: not a number '-s / --frame-start x'.",
    ],
)
@BOTH
def test_an_option_that_blender_passes_over_makes_the_try_fail(
    tmp_path: Path, format: ProgressFormat, line: str
) -> None:
    assert ProgressPrinter(tmp_path, format, start=1, stop=20).prints(f"{BANNER}{line}\n{FRAME}").fatal == line


@pytest.mark.parametrize(
    ("format", "printed"),
    [
        (ProgressFormat.AUTO, "Error: Python: OSError: no file\nframe=12 fps=0.0 q=28.0 size=1kB\n"),
        (ProgressFormat.BLENDER, BANNER + "Error: Not freed memory blocks: 2, total unfreed memory 0.01 MB\n" + FRAME),
        # What add-ons print as Blender starts is seen in no picture.
        (ProgressFormat.BLENDER, BANNER + ADD_ON + FRAME),
        (
            ProgressFormat.BLENDER,
            BANNER + "Exception ignored in: <function Timer.__del__ at 0x7f>\n" + TRACEBACK + FRAME,
        ),
        (ProgressFormat.BLENDER, BANNER + "Exception in thread Thread-1 (ask):\n" + TRACEBACK + FRAME),
        # Of other programs the exit code tells.
        (ProgressFormat.AUTO, TRACEBACK + "frame=12 fps=0.0 q=28.0 size=1kB\n"),
        (ProgressFormat.NONE, BANNER + TRACEBACK + FRAME),
        (ProgressFormat.FFMPEG, BANNER + TRACEBACK + FRAME),
    ],
)
def test_other_tracebacks_fail_no_try(tmp_path: Path, format: ProgressFormat, printed: str) -> None:
    assert ProgressPrinter(tmp_path, format, start=1, stop=20).prints(printed).fatal is None


def test_an_exception_of_blender_is_found_in_output_that_is_too_much_to_be_followed(tmp_path: Path) -> None:
    printed = BANNER + TRACEBACK + FRAME * 10_000

    assert ProgressPrinter(tmp_path, start=1, stop=20).prints(printed).fatal is not None
