"""Print the versions of the peers as JSON; run by the Python that has them."""

import json
import subprocess
from importlib.metadata import version

from celery_peer import find_redis

found = {name: version(name) for name in ("celery", "dask", "prefect")}
line = subprocess.run((find_redis(), "--version"), capture_output=True, text=True, check=True).stdout
found["redis"] = line.partition("v=")[2].split()[0]
print(json.dumps(found))
