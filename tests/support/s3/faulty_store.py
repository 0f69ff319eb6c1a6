"""A store in the tests' S3 server behind a faulty way, and what must hold when a test with it has ended."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.s3.faulty_proxy import FaultyStore, faulty
from support.s3.server import S3Server
from support.s3.stores import SMALL_PART_BYTES, bucket_store

from longtake.stores.s3 import S3Store
from longtake.stores.s3_calls import RetryPolicy
from longtake.stores.store import StoreError

# A file in one piece, and one in two parts.
SMALL = os.urandom(20_000)
LARGE = os.urandom(SMALL_PART_BYTES + 777)
CONTENTS = {"small": SMALL, "large": LARGE}

# A test that waits for it to run out does not wait long.
LITTLE_PATIENCE = RetryPolicy(seconds=0.3, first_seconds=0.02, most_seconds=0.1)


@dataclass
class FaultyScene:
    """A store, the way to it, and the server behind that."""

    s3_server: S3Server
    way: FaultyStore
    store: S3Store
    folder: Path

    @property
    def film(self) -> str:
        """Where a film goes."""
        return self.store.locate("film.mov")

    @property
    def copy(self) -> str:
        """Where a second one goes."""
        return self.store.locate("copy.mov")

    def made(self, content: bytes) -> Path:
        """Return a file of this host."""
        path = self.folder / "made.mov"
        path.write_bytes(content)
        return path

    def impatient(self) -> S3Store:
        """Return the same store, for those who do not wait."""
        return bucket_store(
            self.s3_server, self.folder, url=self.store.url, endpoint=self.way.url, patience=LITTLE_PATIENCE
        )

    def direct(self) -> S3Store:
        """Return the same store by the good way."""
        return bucket_store(self.s3_server, self.folder, url=self.store.url)

    def said(self, error: StoreError) -> str:
        """Return what an error says; it must be one sentence, and tell no secret."""
        said = str(error)
        assert re.fullmatch(r"s3://[a-z0-9-]+/\S+: [a-z/][^\n]*[^.\s]", said), said
        assert self.s3_server.secret_key not in said
        assert self.s3_server.access_key not in said
        assert not re.search(r"Traceback|<\?xml|http://|botocore", said), said
        return said


@contextmanager
def faulty_scene(s3_server: S3Server, folder: Path) -> Iterator[FaultyScene]:
    """Offer an empty store; at the end nothing may be in it, or on this host, that was only begun."""
    with faulty(s3_server.url) as way:
        store = bucket_store(s3_server, folder / "scratch", endpoint=way.url)
        yield FaultyScene(s3_server, way, store, folder)
    bucket, _, prefix = store.url.removeprefix("s3://").partition("/")
    # All are asked for: some servers take a prefix for the name of an object.
    begun = s3_server.client().list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    assert [upload["Key"] for upload in begun if upload["Key"].startswith(prefix)] == []
    assert list(folder.rglob(".*.partial")) == []
