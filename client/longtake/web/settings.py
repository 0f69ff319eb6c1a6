"""Settings of the web server."""

from dataclasses import dataclass, field
from pathlib import Path

# Names under which a browser on this host reaches a server on loopback.
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")

STATIC = Path(__file__).parent / "static"


@dataclass(frozen=True)
class WebSettings:
    """Settings of one web server.

    Args:
        hosts: Host names by which it may be asked, without a port; another name is that of an attacker's page.
        token_file: File with the tokens of those who may ask; None asks for none, which is for loopback alone.
        trusted_header: Header in which an authenticating proxy names who asks.
        trusted_peers: Addresses of that proxy; the header of anybody else is not believed.
        trusted_role: What those may do whom the proxy names.
        roots: Folders that stores must lie in; none allows all that this account can read.
        ui: Address of Temporal's own page, for links.
        static: Folder of the page.
    """

    hosts: tuple[str, ...] = LOOPBACK_HOSTS
    token_file: Path | None = None
    trusted_header: str | None = None
    trusted_peers: tuple[str, ...] = ()
    trusted_role: str = "look"
    roots: tuple[Path, ...] = ()
    ui: str | None = None
    static: Path = field(default=STATIC)
