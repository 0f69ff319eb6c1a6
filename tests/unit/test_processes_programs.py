"""Which programs a job may run: those that a worker allows, found once, whatever a job calls them."""

import os
import sys
from pathlib import Path

import pytest

from activities.processes.programs import JobVariables, Programs, build_render_environment, find_ffmpeg, link_ffmpeg
from longtake.errors import BadJobError


def resolve(programs: Programs, *command: str, base_dir: Path = Path("/")) -> tuple[str, ...]:
    return programs.resolve(command, base_dir=base_dir, field="command")


def test_an_allowed_program_is_run_by_its_path() -> None:
    programs = Programs(("sh",), "ffmpeg")

    program, *arguments = resolve(programs, "sh", "-c", "true")

    assert os.path.isabs(program)
    assert arguments == ["-c", "true"]


@pytest.mark.parametrize("name", ["env", sys.executable])
def test_a_program_that_is_not_allowed_is_refused_with_the_fix(name: str) -> None:
    with pytest.raises(
        BadJobError, match=r"command: .* may not run on this worker; add it to LONGTAKE_ALLOWED_COMMANDS"
    ):
        resolve(Programs(("sh",), "ffmpeg"), name)


def test_a_program_of_the_same_name_elsewhere_is_not_the_allowed_one(tmp_path: Path) -> None:
    fake = tmp_path / "sh"
    fake.write_text("#!/bin/sh\n")
    fake.chmod(0o755)

    with pytest.raises(BadJobError, match="may not run"):
        resolve(Programs(("sh",), "ffmpeg"), str(fake))
    with pytest.raises(BadJobError, match="may not run"):
        resolve(Programs(("sh",), "ffmpeg"), "./sh", base_dir=tmp_path)


def test_a_program_in_the_jobs_folder_is_named_by_its_relative_path(tmp_path: Path) -> None:
    script = tmp_path / "render.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)

    assert resolve(Programs(None, "ffmpeg"), "./render.sh", base_dir=tmp_path) == (str(tmp_path / "./render.sh"),)


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(BadJobError, match="there is no program 'no-such-renderer' on this worker"):
        resolve(Programs(None, "ffmpeg"), "no-such-renderer")


def test_ffmpeg_is_found_under_its_plain_name_by_commands_and_by_scripts(tmp_path: Path) -> None:
    (program,) = resolve(Programs(("ffmpeg",), find_ffmpeg()), "ffmpeg")
    # That of a worker that found another one.
    link_ffmpeg("/bin/sh", tmp_path / "tools")
    link_ffmpeg(find_ffmpeg(), tmp_path / "tools")
    link_ffmpeg(find_ffmpeg(), tmp_path / "tools")

    assert os.access(program, os.X_OK)
    assert os.path.realpath(tmp_path / "tools" / "ffmpeg") == os.path.realpath(program)


def test_the_environment_of_a_render_is_built_from_nothing() -> None:
    worker = {"PATH": "/bin", "LC_ALL": "C", "AWS_SECRET_ACCESS_KEY": "x", "TEMPORAL_API_KEY": "x", "LICENSE": "7"}

    seen = build_render_environment(worker, {"SCENE": "1"}, tag={"LONGTAKE_JOB": "j"}, also=["LICENSE"])

    assert seen == {"PATH": "/bin", "LC_ALL": "C", "SCENE": "1", "LICENSE": "7", "LONGTAKE_JOB": "j"}


LOADING = [
    *("LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "DYLD_INSERT_LIBRARIES", "GLIBC_TUNABLES", "GCONV_PATH", "FFREPORT"),
    *("PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "PERL5LIB", "RUBYOPT", "NODE_OPTIONS", "JAVA_TOOL_OPTIONS"),
    *("PATH", "HOME", "BASH_ENV", "ENV", "BASH_FUNC_x", "XDG_CONFIG_HOME", "SSLKEYLOGFILE", "FREI0R_PATH"),
    *("BLENDER_USER_SCRIPTS", "VK_ADD_LAYER_PATH", "LADSPA_PATH", "GIT_SSH_COMMAND", "ld_preload", "LONGTAKE_JOB"),
]


@pytest.mark.parametrize("name", LOADING)
def test_a_job_sets_no_variable_by_which_programs_load_code_or_write_files(name: str) -> None:
    with pytest.raises(BadJobError, match=f"env: {name} has programs load code.*LONGTAKE_JOB_ENV"):
        build_render_environment({"PATH": "/bin"}, {"SCENE": "1", name: "/store/evil"}, tag={})


def test_a_worker_says_which_variables_jobs_may_set() -> None:
    JobVariables(("SHOT", "SHOW_*")).check({"SHOT": "1", "SHOW_A": "2"})
    JobVariables(("*", "PYTHONPATH")).check({"SHOT": "1", "PYTHONPATH": "2"})
    with pytest.raises(BadJobError, match="env: SCENE is not a variable that jobs may set on this worker; leave it"):
        JobVariables(("SHOT", "SHOW_*")).check({"SCENE": "1"})
    with pytest.raises(BadJobError, match="env: LD_PRELOAD has programs load code"):
        JobVariables(("*", "LD_*")).check({"LD_PRELOAD": "x"})
    with pytest.raises(BadJobError, match="env: SCENE is not a variable"):
        JobVariables(()).check({"SCENE": "1"})
