"""Settings of the web server, and what they must be before it serves more than its own host."""

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from longtake.errors import BadJobError
from longtake.text import escape_text
from longtake.web.tokens import Role, TokenFile

# Names under which a browser on this host reaches a server on loopback.
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")

STATIC = Path(__file__).parent / "static"

# RFC 9110: the characters of a header's name.
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]", re.ASCII)


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
    trusted_role: Role = Role.LOOK
    roots: tuple[Path, ...] = ()
    ui: str | None = None
    static: Path = STATIC


def make_settings(
    *,
    listen: str,
    token_file: Path | None,
    trusted_header: str | None,
    trusted_peers: Sequence[str],
    trusted_role: str,
    allowed_hosts: Sequence[str],
    roots: Sequence[Path],
    ui: str | None,
) -> WebSettings:
    """Return the settings that options of the command line name.

    Raises:
        BadJobError: One of them cannot be, or others than this host would reach a server that asks for nothing.
        LongtakeError: The tokens cannot be read.
    """
    if trusted_role not in list(Role):
        raise BadJobError(f"--trusted-role: is '{escape_text(trusted_role)}'; use {', '.join(Role)}")
    if trusted_header is not None and not _HEADER.fullmatch(trusted_header):
        raise BadJobError(f"--trusted-header: '{escape_text(trusted_header)}' is no header; name one")
    if (trusted_header is None) != (not trusted_peers):
        raise BadJobError("--trusted-header: needs --trusted-peer, the address of the proxy that sends it; give both")
    for peer in trusted_peers:
        _check_network(peer)
    for host in allowed_hosts:
        if not _HOST.fullmatch(host):
            raise BadJobError(f"--allow-host: '{escape_text(host)}' is no name of a host; write it without a port")
    if not is_loopback(listen):
        if token_file is None and trusted_header is None:
            raise BadJobError(
                f"--listen: whoever reaches {escape_text(listen)} could start programs here; add --token-file FILE "
                "(`longtake web token add NAME --token-file FILE` makes one), or --trusted-header and --trusted-peer"
            )
        allowed_hosts = [*allowed_hosts, socket.gethostname(), socket.getfqdn()]
    if token_file is not None and not TokenFile(token_file).load() and trusted_header is None:
        raise BadJobError(
            f"--token-file: {token_file} has no token; `longtake web token add NAME --token-file {token_file}` adds one"
        )
    if ui is not None and not ui.startswith(("http://", "https://")):
        raise BadJobError(f"--ui: '{escape_text(ui)}' is no address of a page; write http://host:port")
    return WebSettings(
        hosts=(*LOOPBACK_HOSTS, *allowed_hosts),
        token_file=token_file,
        trusted_header=trusted_header,
        trusted_peers=tuple(trusted_peers),
        trusted_role=Role(trusted_role),
        roots=tuple(roots),
        ui=ui.rstrip("/") if ui else None,
    )


def is_loopback(host: str) -> bool:
    """Tell whether nobody but this host reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_network(peer: str) -> None:
    try:
        ipaddress.ip_network(peer, strict=False)
    except ValueError as error:
        raise BadJobError(f"--trusted-peer: '{escape_text(peer)}' is neither an address nor a network") from error
