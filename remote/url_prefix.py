"""What URLs may begin with: the gate between strangers' URLs and the network of the agent."""

import re
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator

# What servers and proxies read in different ways: a path that is written otherwise than it is meant.
_AMBIGUOUS = re.compile(r"[\x00-\x20\x7f\\]|%2e|%2f|%5c|%00|//|/\.{1,2}(/|$)", re.IGNORECASE)

_PORTS = {"http": 80, "https": 443}


def begins_with(url: str, prefix: str) -> bool:
    """Tell whether a URL lies at or below a prefix, and can be read in one way only.

    The host is compared as a whole, and the path by its folders: neither `https://good.example.evil` nor
    `/jobs-of-others` passes for `https://good.example` or `/jobs`.
    """
    allowed, found = _parts(prefix), _parts(url)
    if allowed is None or found is None or _address(found) != _address(allowed):
        return False
    folder = allowed.path.rstrip("/")
    return found.path == folder or found.path.startswith(f"{folder}/")


def _parts(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        is_plain = parts.scheme in _PORTS and bool(parts.hostname) and "@" not in parts.netloc and not parts.fragment
        # Raises where the port is none.
        known = is_plain and (parts.port is None or parts.port > 0)
    except ValueError:
        return None
    if not known or not url.isascii() or _AMBIGUOUS.search(url.partition("?")[0].partition("://")[2]):
        return None
    return None if re.search(r"[\x00-\x20\x7f\\]", parts.query) else parts


def _address(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, (parts.hostname or "").rstrip("."), parts.port or _PORTS[parts.scheme]


def _checked(prefix: str) -> str:
    parts = _parts(prefix)
    if parts is None or parts.query:
        raise ValueError("is no plain URL; write the beginning of URLs, as in https://host/folder/")
    return prefix


UrlPrefix = Annotated[str, AfterValidator(_checked)]
