"""Generate the TypeScript client from the API's description: `make web-client`; needs npm."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

from longtake.web.app import describe_api

FOLDER = Path(__file__).resolve().parent


def render_description() -> str:
    """Return the description as `openapi.json` holds it."""
    return json.dumps(describe_api(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def name_source() -> str:
    """Return the line of the client that says from which description it was generated."""
    return f"// Of openapi.json with SHA-256 {hashlib.sha256(render_description().encode()).hexdigest()}\n"


def main() -> int:
    """Write the description and generate the client from it; return the exit code."""
    (FOLDER / "openapi.json").write_text(render_description(), encoding="utf-8")
    for command in (["npm", "install", "--no-audit", "--no-fund"], ["npm", "run", "generate"], ["npm", "run", "check"]):
        if code := subprocess.run(command, cwd=FOLDER, check=False).returncode:
            return code
    client = FOLDER / "longtake.ts"
    client.write_text(name_source() + client.read_text(encoding="utf-8"), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
