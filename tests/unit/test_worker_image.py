"""The worker's image holds what a worker imports, runs as nobody special, and is made from nothing secret."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
STAGES = re.split(r"(?m)^(?=FROM )", DOCKERFILE)[1:]


def copies(stage: str) -> list[tuple[list[str], str]]:
    """What a stage copies from the checkout, and where to."""
    lines = [line.split()[1:] for line in stage.splitlines() if line.startswith("COPY ") and "--from=" not in line]
    return [(words[:-1], words[-1]) for words in lines]


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The folder /app of the image."""
    for sources, target in copies(STAGES[-1]):
        for source in sources:
            place = tmp_path / target
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place)
            else:
                place.mkdir(exist_ok=True)
                shutil.copy(ROOT / source, place)
    return tmp_path


def test_the_image_holds_all_that_its_programs_import(app: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(app)!r}); sys.argv = ['worker.py', '--help']; "
        "import worker_health; import worker; worker.main()"
    )
    # In a folder and with a path of its own: the checkout must not help out.
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=app,
        env={"PYTHONPATH": str(ROOT / "client"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert "Runs Longtake jobs" in done.stdout


def test_what_is_copied_is_there_and_not_ignored() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for stage in STAGES:
        for sources, _ in copies(stage):
            for source in sources:
                assert (ROOT / source).exists(), source
                assert source.split("/")[0] in allowed, source


def test_nothing_else_of_the_checkout_reaches_a_build() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    assert not {line for line in lines if line.startswith("!")} & {"!.env", "!.git", "!.cache", "!tests"}


def test_it_runs_as_an_account_of_its_own_under_an_init() -> None:
    final = STAGES[-1]
    assert len(STAGES) == 2
    assert re.search(r"(?m)^USER longtake$", final)
    assert final.index("USER longtake") < final.index("ENTRYPOINT")
    assert '\nENTRYPOINT ["tini", ' in final
    assert '\nCMD ["python", "worker.py"]' in final
    assert "\nHEALTHCHECK " in final


def test_no_render_reads_the_environment_of_what_the_container_starts() -> None:
    """Its init and its health check have all secrets in their environment: its account cannot read their programs."""
    final = STAGES[-1]
    assert "chmod 0711 /usr/bin/tini " in final
    assert "install --mode=0711 /usr/local/bin/python3.13 /opt/longtake/bin/python-unreadable\n" in final
    assert '\nENTRYPOINT ["tini", ' in final
    assert re.search(r'(?m)^HEALTHCHECK .* CMD \["python-unreadable", "worker_health.py"\]$', final)
    assert final.index("chmod 0711") < final.index("USER longtake")
    assert "chmod 0711 /usr/bin/tini\n" in (ROOT / "deploy" / "gcp" / "Dockerfile").read_text()


def test_an_account_sees_no_environment_of_a_program_that_it_cannot_read(tmp_path: Path) -> None:
    """What these lines of the image rely on, of this kernel."""
    readable, unreadable = tmp_path / "readable", tmp_path / "unreadable"
    for copy, mode in ((readable, 0o755), (unreadable, 0o711 if os.getuid() == 0 else 0o111)):
        shutil.copy(shutil.which("sleep") or "/bin/sleep", copy)
        copy.chmod(mode)
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents[:3]:
        folder.chmod(folder.stat().st_mode | 0o055)
    look = 'SECRET=hunter2 "$0" 60 & until [ "$(cat /proc/$!/comm)" = "$1" ]; do :; done; cat /proc/$!/environ; kill $!'
    # Root reads everything.
    account = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}

    def looked(program: Path) -> str:
        command = ["sh", "-c", look, str(program), program.name]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, **account).stdout  # type: ignore[call-overload,no-any-return]

    assert "hunter2" in looked(readable)
    assert "hunter2" not in looked(unreadable)


def test_bases_are_named_with_their_version() -> None:
    bases = re.findall(r"(?m)^FROM (\S+)", DOCKERFILE)
    assert all(re.search(r":\d+\.\d+", base) for base in bases), bases


def test_versions_are_the_tested_ones() -> None:
    assert "-c constraints.txt '.[worker]'" in STAGES[0]
