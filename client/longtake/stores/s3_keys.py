"""Which keys of a bucket a store may touch, and the locations that name them."""

import posixpath
import re
from pathlib import Path

# What S3, MinIO and R2 all take: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

# Of UTF-8: the limit of S3 for a key, and that of MinIO and of local disks for one name in it.
_KEY_BYTES = 1024
_NAME_BYTES = 255

_SCHEME = "s3://"


class Keys:
    """The keys below one prefix of one bucket.

    Args:
        url: `s3://bucket` or `s3://bucket/prefix`.
        scratch: Where this host keeps what it works at for it.

    Raises:
        ValueError: The URL is no such thing; `is ...; the fix`.
    """

    def __init__(self, url: str, scratch: Path) -> None:
        bucket, _, prefix = url.removeprefix(_SCHEME).partition("/")
        if not url.startswith(_SCHEME) or not _BUCKET.fullmatch(bucket):
            raise ValueError("names no bucket; write s3://bucket/prefix, the bucket in small letters, digits, . and -")
        self.bucket = bucket
        self._path = prefix.rstrip("/")
        self._root = f"{_SCHEME}{bucket}/"
        self._scratch = scratch
        if self._path:
            _check(self._path)

    @property
    def url(self) -> str:
        """The store, as a location of its own root."""
        return (self._root + self._path).rstrip("/")

    def locate(self, path: str) -> str:
        """Return the location of a path as a job names it.

        Raises:
            ValueError: It leads out of the store, or no key can have this name.
        """
        if path == self.url or path.startswith(f"{self.url}/"):
            self.folder(path)
            return path.rstrip("/")
        inside = posixpath.normpath(path)
        if inside.startswith(("/", "../", _SCHEME.replace("//", "/"))) or inside == "..":
            raise ValueError(f"leads out of {self.url}; write a path below it, without a / before it")
        if "\\" in inside:
            # SeaweedFS takes it for a slash, so that a\b and a/b would be one file.
            raise ValueError(f"{inside!r} holds a backslash, which not every service tells from /; write another character")
        location = self.url if inside == "." else f"{self.url}/{inside}"
        self.folder(location)
        return location

    def key(self, location: str) -> str:
        """Return the key of a file.

        Raises:
            ValueError: The location is not below this store, or no key can have this name.
        """
        key = self.folder(location).rstrip("/")
        if key == self._path:
            raise ValueError(f"{location} is the store itself and no file of it; name a path below it")
        return key

    def folder(self, location: str) -> str:
        """Return what the keys of all that is in a folder begin with.

        Raises:
            ValueError: The location is not below this store, or no key can have this name.
        """
        if location != self.url and not location.startswith(f"{self.url}/"):
            raise ValueError(f"{location} leads out of {self.url}; name a path below it")
        key = location.removeprefix(self._root if location.startswith(self._root) else self.url).rstrip("/")
        if not key:
            return ""
        _check(key)
        return f"{key}/"

    def location(self, key: str) -> str:
        """Return the location that a key has."""
        return self._root + key

    def local(self, location: str) -> Path:
        """Return where this host writes what is to be put there: one place for each location, below the scratch.

        Raises:
            ValueError: The location is not below this store, or no file can have this name.
        """
        return self._scratch / self.bucket / self.folder(location)


def _check(key: str) -> None:
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{key!r} holds half a character; write it anew, in UTF-8") from None
    if len(encoded) > _KEY_BYTES:
        raise ValueError(f"{key[:60]!r}... is longer than the {_KEY_BYTES} bytes that a key may have; shorten it")
    for name in key.split("/"):
        if name in ("", ".", ".."):
            raise ValueError(f"{key!r} holds an empty name, . or ..; take it out")
        if len(name.encode()) > _NAME_BYTES:
            raise ValueError(f"{name[:60]!r}... is longer than the {_NAME_BYTES} bytes of a name; shorten it")
        if "\0" in name:
            raise ValueError(f"{name!r} holds a NUL, which no file name can; take it out")
