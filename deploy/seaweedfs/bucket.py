"""Create the bucket of the farm, and wait until the workers' key can write to it; safe to run again.

Reads S3_ENDPOINT, S3_ADMIN_ACCESS_KEY, S3_ADMIN_SECRET_KEY, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Needs boto3,
which the image of a worker and a checkout have.
"""

import os
import sys
import time
from contextlib import suppress

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

BUCKET = "longtake"

# The server accepts its keys some seconds before it can store files.
_PATIENCE_SECONDS = 60.0


def create_bucket(endpoint: str, admin: tuple[str, str], worker: tuple[str, str]) -> None:
    """Create the bucket unless it is there, and write an object with the workers' key."""
    config = Config(s3={"addressing_style": "path"}, connect_timeout=5, read_timeout=10)
    for_admin, for_worker = (
        boto3.Session(*keys, region_name="us-east-1").client("s3", endpoint_url=endpoint, config=config)
        for keys in (admin, worker)
    )
    with suppress(for_admin.exceptions.BucketAlreadyOwnedByYou, for_admin.exceptions.BucketAlreadyExists):
        for_admin.create_bucket(Bucket=BUCKET)
    probe = f".longtake-probe-{os.urandom(8).hex()}"
    for_worker.put_object(Bucket=BUCKET, Key=probe, Body=b"")
    for_worker.delete_object(Bucket=BUCKET, Key=probe)


def main() -> int:
    """Create the bucket that the environment names; return the exit code."""
    given = os.environ
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            create_bucket(
                given["S3_ENDPOINT"],
                (given["S3_ADMIN_ACCESS_KEY"], given["S3_ADMIN_SECRET_KEY"]),
                (given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"]),
            )
        except (BotoCoreError, ClientError) as error:
            if time.monotonic() > deadline:
                print(f"the bucket {BUCKET} cannot be used at {given['S3_ENDPOINT']}: {error}", file=sys.stderr)
                return 1
            time.sleep(0.2)
        else:
            return 0


if __name__ == "__main__":
    sys.exit(main())
