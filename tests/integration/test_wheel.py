import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What only workers and the command line need: a service that submits jobs must not have to carry it.
NOT_FOR_CALLERS = ("boto3", "httpx", "av", "rich", "yaml", "typer", "psutil", "imageio_ffmpeg", "cryptography")

CONSUMER = """\
from longtake import RenderClient, RenderJobSpec

async def render(spec: RenderJobSpec) -> None:
    farm = await RenderClient.connect()
    job = await farm.submit(spec)
    reveal_type(farm)
    reveal_type(job)
    reveal_type(await job.result())
    await farm.submit(b"not a job")  # type: ignore[arg-type]
"""

IMPORTER = """\
import importlib.util, json, sys
import longtake
from longtake import RenderClient, RenderJobSpec
names = sys.argv[1:]
print(json.dumps({
    "file": longtake.__file__,
    "imported": [name for name in names if name in sys.modules],
    "installed": [name for name in names if importlib.util.find_spec(name)],
}))
"""


def run(*command: str | Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    return subprocess.run(
        command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=150
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: setuptools packs whatever an earlier build left in `build/`."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "client", source / "client", ignore=unwanted)
    for name in ("workflows", "activities"):
        shutil.copytree(ROOT / name, source / name, ignore=unwanted)
    built = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", ".", cwd=source)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = (source / "dist").iterdir()
    return path


@pytest.fixture(scope="module")
def clean_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a venv that holds the wheel and what it asks for, and nothing else."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries=1", "--python", python)
    # What is imported is compiled then: most of Temporal's files never are.
    installed = run(*pip, "install", "--no-compile", "--constraint", ROOT / "constraints.txt", wheel, cwd=folder)
    assert installed.returncode == 0, installed.stdout + installed.stderr
    return python


def test_the_wheel_holds_longtake_only(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()

    assert {name.split("/")[0] for name in names} == {
        "longtake",
        f"{wheel.name.removesuffix('-py3-none-any.whl')}.dist-info",
    }
    source = [path for path in (ROOT / "client" / "longtake").rglob("*") if path.is_file()]
    expected = {path.relative_to(ROOT / "client").as_posix() for path in source if path.suffix != ".pyc"}
    assert {name for name in names if name.startswith("longtake/")} == expected
    assert "longtake/py.typed" in expected


@pytest.mark.slow
def test_a_caller_needs_temporal_and_pydantic_only(clean_python: Path, tmp_path: Path) -> None:
    done = run(clean_python, "-I", "-c", IMPORTER, *NOT_FOR_CALLERS, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert Path(seen["file"]).is_relative_to(clean_python.parents[1])
    assert (seen["imported"], seen["installed"]) == ([], [])


@pytest.mark.slow
def test_a_callers_code_is_fully_typed(clean_python: Path, tmp_path: Path) -> None:
    (tmp_path / "consumer.py").write_text(CONSUMER)

    checked = run(
        *(sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", tmp_path / "cache"),
        *("--python-executable", clean_python, "consumer.py"),
        cwd=tmp_path,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
    revealed = [line.split('"')[1].rsplit(".", 1)[1] for line in checked.stdout.splitlines() if "Revealed" in line]
    assert revealed == ["RenderClient", "JobHandle", "RenderJobResult"]
