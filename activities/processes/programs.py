"""The programs that jobs may run, and the environment that renders see."""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import imageio_ffmpeg

from activities.processes.privacy import is_passed
from longtake.errors import BadJobError

# Variables that have a program load code, run a command or write a file: with one of them an allowed program does what
# no list of programs allows (LD_PRELOAD=/store/x.so, FFREPORT=file=/store/y.log). A worker allows one by its full name.
_CODE_VARIABLES = frozenset(
    # Where programs, their libraries and their start-up scripts are found.
    {"PATH", "HOME", "SHELL", "ENV", "BASH_ENV", "IFS", "PS4", "SHELLOPTS", "BASHOPTS", "CDPATH", "PROMPT_COMMAND"}
    | {"ZDOTDIR", "EDITOR", "VISUAL", "PAGER", "BROWSER", "LESSOPEN", "LESSCLOSE", "INPUTRC", "TERMINFO", "TERMCAP"}
    | {"GCONV_PATH", "GETCONF_DIR", "GLIBC_TUNABLES", "LOCPATH", "NLSPATH", "HOSTALIASES", "LOCALDOMAIN", "RES_OPTIONS"}
    # Interpreters.
    | {"CLASSPATH", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "TCLLIBPATH", "PHPRC", "PHP_INI_SCAN_DIR"}
    # Reports, traces and keys that are written to a file of any name.
    | {"FFREPORT", "SSLKEYLOGFILE", "LLVM_PROFILE_FILE", "CPUPROFILE", "HEAPPROFILE", "MALLOC_TRACE", "MALLOC_CONF"}
    # Plug-ins of libraries that renderers use.
    | {"FREI0R_PATH", "LADSPA_PATH", "LV2_PATH", "DSSI_PATH", "AVISYNTH_PLUGIN_PATH", "OFX_PLUGIN_PATH"}
    | {"FONTCONFIG_FILE", "FONTCONFIG_PATH", "FONTCONFIG_SYSROOT", "GBM_BACKENDS_PATH", "MAGICK_CONFIGURE_PATH"}
    | {"MAGICK_CODER_MODULE_PATH", "MAGICK_FILTER_MODULE_PATH", "EGL_PLATFORM_LIBRARY_PATH", "ALSA_CONFIG_PATH"}
)
_CODE_PREFIXES = (
    *("LD_", "DYLD_", "_RLD", "BASH_FUNC_", "RESOLV_", "XDG_", "NIX_", "GUIX_"),
    *(
        "PYTHON",
        "PERL",
        "RUBY",
        "GEM_",
        "BUNDLE_",
        "NODE_",
        "NPM_",
        "LUA_",
        "JULIA_",
        "R_LIBS",
        "R_PROFILE",
        "R_ENVIRON",
        "GUILE_",
        "OCAML",
    ),
    *("DOTNET_", "COR_", "CORECLR_", "MONO_", "JAVA_", "GIT_", "SSH_", "OPENSSL_", "KRB5"),
    *("ASAN_", "LSAN_", "MSAN_", "TSAN_", "UBSAN_", "GCOV_", "GMON_", "VALGRIND_"),
    *(
        "BLENDER_USER_",
        "BLENDER_SYSTEM_",
        "GST_",
        "GIO_",
        "GTK_",
        "GDK_PIXBUF_",
        "QT_PLUGIN",
        "QT_QPA_PLATFORM_PLUGIN",
        "QML",
    ),
    *("VK_", "OCL_ICD_", "LIBVA_", "VDPAU_", "LIBGL_", "MESA_", "EGL_", "__EGL_", "__GLX_", "CUDA_INJECTION", "NV_"),
    # The marks of attempts, and settings of programs of ours that a job may start.
    *("LONGTAKE_", "_LONGTAKE_", "TEMPORAL_"),
)


def find_ffmpeg() -> str:
    """Find ffmpeg on PATH, or else in the imageio-ffmpeg wheel."""
    return shutil.which("ffmpeg") or imageio_ffmpeg.get_ffmpeg_exe()


def link_ffmpeg(ffmpeg: str, folder: Path) -> None:
    """Link ffmpeg under its plain name into a folder, for scripts of jobs that call `ffmpeg`."""
    link, program = folder / "ffmpeg", os.path.realpath(ffmpeg)
    # One of before may lead to another ffmpeg: renders would call that, and the worker this one.
    if os.path.realpath(link) != program:
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".ffmpeg.{os.getpid()}"
        partial.symlink_to(program)
        partial.replace(link)


class Programs:
    """Finds the programs of commands and refuses those that a worker does not allow.

    Args:
        allowed: Names or paths of programs; None allows all.
        ffmpeg: What the name `ffmpeg` stands for.
    """

    def __init__(self, allowed: Sequence[str] | None, ffmpeg: str) -> None:
        self.ffmpeg = ffmpeg
        self._allowed = None if allowed is None else frozenset(filter(None, map(self._locate, allowed)))

    def resolve(self, command: Sequence[str], *, base_dir: Path, field: str) -> tuple[str, ...]:
        """Replace the program of a command by its absolute path.

        Args:
            command: Program and arguments.
            base_dir: Folder that a relative path of a program is resolved against.
            field: Key of the job file, for the error.

        Raises:
            BadJobError: The program is missing or not allowed.
        """
        name = command[0]
        found = self._locate(name) or (self._locate(str(base_dir / name)) if "/" in name else None)
        if found is None:
            raise BadJobError(f"{field}: there is no program {name!r} on this worker; install it or mend the name")
        if self._allowed is not None and found not in self._allowed:
            raise BadJobError(
                f"{field}: {name!r} may not run on this worker; add it to LONGTAKE_ALLOWED_COMMANDS there, or use "
                "another program"
            )
        return (found, *command[1:])

    def _locate(self, name: str) -> str | None:
        if name == "ffmpeg":
            return os.path.realpath(self.ffmpeg)
        found = shutil.which(name)
        # Links are not followed: programs such as busybox look at the name they are called by.
        return os.path.abspath(found) if found else None


class JobVariables:
    """Refuses variables of a job's `env` that a worker does not let jobs set.

    Args:
        allowed: Names; one that ends in `*` stands for all that begin so. Variables that have programs load code, run
            commands or write files must be named in full. None allows all others.
    """

    def __init__(self, allowed: Sequence[str] | None = None) -> None:
        names = ("*",) if allowed is None else allowed
        self._names = frozenset(name for name in names if not name.endswith("*"))
        self._prefixes = tuple(name[:-1] for name in names if name.endswith("*"))

    def check(self, env: Mapping[str, str]) -> None:
        """Raise unless a job may set all these variables.

        Raises:
            BadJobError: One may not be set; the sentence names the variable and the fix.
        """
        for name in env:
            if name in self._names:
                continue
            if loads_code(name):
                raise BadJobError(
                    f"env: {name} has programs load code, run commands or write files, and jobs may not set it here; "
                    "leave it out, or add it by its full name to LONGTAKE_JOB_ENV on the worker"
                )
            if not name.startswith(self._prefixes):
                raise BadJobError(
                    f"env: {name} is not a variable that jobs may set on this worker; leave it out, or add it to "
                    "LONGTAKE_JOB_ENV there"
                )


def loads_code(name: str) -> bool:
    """Return whether a variable of this name has programs load code, run commands or write files."""
    # Some programs and systems do not tell letter cases apart.
    return name.upper() in _CODE_VARIABLES or name.upper().startswith(_CODE_PREFIXES)


def build_render_environment(
    worker: Mapping[str, str],
    job: Mapping[str, str],
    *,
    tag: Mapping[str, str],
    also: Iterable[str] = (),
    job_variables: JobVariables | None = None,
) -> dict[str, str]:
    """Build the environment of a render.

    Args:
        worker: The worker's own environment, of which allowed variables and `LC_*` are taken.
        job: Variables that the job sets, which replace the worker's.
        tag: Variables that mark every process of the attempt, which replace all others.
        also: Names of more variables to take from the worker.
        job_variables: Decides which variables the job may set; None refuses those that load code.

    Raises:
        BadJobError: The job sets a variable that it may not set; planning looks, and so does each attempt.
    """
    (job_variables or JobVariables()).check(job)
    more = set(also)
    kept = {name: value for name, value in worker.items() if is_passed(name) or name in more}
    return {**kept, **job, **tag}
