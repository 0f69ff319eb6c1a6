"""The environment of a render: built up from nothing, so that no credential of the worker's is in it."""

from collections.abc import Iterable, Mapping

# What programs need to find themselves, their files, their language and their GPU.
_ALLOWED = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TMP", "TEMP", "DISPLAY"}
    | {"XDG_RUNTIME_DIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"}
)


def render_environment(
    worker: Mapping[str, str], job: Mapping[str, str], *, tag: Mapping[str, str], also: Iterable[str] = ()
) -> dict[str, str]:
    """Return the variables that a render sees.

    Args:
        worker: The worker's own environment, of which the allow list and `LC_*` are taken.
        job: What the job sets; it wins.
        tag: Marks every process of the attempt, wherever it goes; it wins over all.
        also: More names to take from the worker.
    """
    names = _ALLOWED | set(also)
    kept = {name: value for name, value in worker.items() if name in names or name.startswith("LC_")}
    return {**kept, **job, **tag}
