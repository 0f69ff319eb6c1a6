"""A folder of files that a job in a bucket reads, and the job."""

import json
import sys
from pathlib import Path
from typing import Any

from longtake import FrameRange, RenderJobSpec, Retry
from longtake.stores.store import Store

# Writes what it finds below the folder it runs in, and leaves a file there.
LIST = (
    "import os, sys; "
    "found = [os.path.join(d, n)[2:] for d, _, ns in os.walk('.') for n in ns]; "
    "open('left-by-a-render', 'w').write('x'); "
    "open(sys.argv[1], 'w').write('\\n'.join(f'{p} {open(p).read()} {os.access(p, os.X_OK)}' for p in sorted(found)))"
)


class Project:
    """A folder with a scene, a link and a program in it, and a bucket for its outputs.

    Args:
        base: The folder, which is made.
        store: The bucket.
    """

    def __init__(self, base: Path, store: str) -> None:
        self.base = base
        self.store = store
        for path, content in {
            "scene/a.txt": "a",
            "scene/deep/b.txt": "b",
            "scene/twin.txt": "a",
            "other.txt": "o",
        }.items():
            (base / path).parent.mkdir(parents=True, exist_ok=True)
            (base / path).write_text(content)
        (base / "scene" / "link.txt").symlink_to("../other.txt")
        (base / "render.sh").write_text("#!/bin/sh\ncat scene/a.txt > $1\n")
        (base / "render.sh").chmod(0o755)

    def job(self, **fields: Any) -> RenderJobSpec:
        """Return a job that lists what its renders find."""
        return RenderJobSpec.model_validate(
            {
                "frames": FrameRange(count=2, per_chunk=1),
                "command": (sys.executable, "-c", LIST.replace("{", "{{").replace("}", "}}"), "{output}"),
                "chunk_output": "out/{chunk}.txt",
                "store": self.store,
                "base_dir": str(self.base),
                "inputs": ("scene", "render.sh"),
                "retry": Retry(attempts=1),
                **fields,
            }
        )

    def job_file(self) -> str:
        """Write such a job into the folder, as a person would; return its path."""
        document = self.job().to_wire()
        del document["contract"], document["base_dir"]
        (self.base / "job.json").write_text(json.dumps(document))
        return str(self.base / "job.json")


def contents(films: Store) -> list[str]:
    return [name for name in films.names(films.locate(".longtake/inputs")) if not name.endswith(".json")]
