"""Settings of the web server, and what they must be before it serves more than its own host."""

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from longtake.allowed_addresses import Network, read_networks
from longtake.errors import BadJobError
from longtake.models.notify import find_origin
from longtake.text import escape_text
from longtake.web.tokens import Role, TokenFile

# Names under which a browser on this host reaches a server on loopback.
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")

STATIC = Path(__file__).parent / "static"

# RFC 9110: the characters of a header's name.
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", re.ASCII)
# A path would say less than it seems to: servers have more than one spelling of the same one.
_ORIGIN = re.compile(r"https?://([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[1-9][0-9]{0,4})?/?", re.ASCII)
_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[!-~]{1,900})?", re.ASCII)
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
        job_sources: Where job files may be fetched from: origins of the web, and `s3://bucket/prefix`.
        job_networks: Networks that are no public ones, and in which those origins may be.
        static: Folder of the page.
    """

    hosts: tuple[str, ...] = LOOPBACK_HOSTS
    token_file: Path | None = None
    trusted_header: str | None = None
    trusted_peers: tuple[str, ...] = ()
    trusted_role: Role = Role.LOOK
    roots: tuple[Path, ...] = ()
    ui: str | None = None
    job_sources: tuple[str, ...] = ()
    job_networks: tuple[Network, ...] = ()
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
    job_sources: Sequence[str] = (),
    job_networks: Sequence[str] = (),
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
    for source in job_sources:
        _check_source(source)
    try:
        networks = read_networks(job_networks)
    except ValueError as error:
        raise BadJobError(f"--job-network: {error}") from error
    return WebSettings(
        hosts=(*LOOPBACK_HOSTS, *allowed_hosts),
        token_file=token_file,
        trusted_header=trusted_header,
        trusted_peers=tuple(trusted_peers),
        trusted_role=Role(trusted_role),
        roots=tuple(roots),
        ui=ui.rstrip("/") if ui else None,
        job_sources=tuple(job_sources),
        job_networks=networks,
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


def _check_source(source: str) -> None:
    try:
        is_place = bool(_BUCKET.fullmatch(source) or (_ORIGIN.fullmatch(source) and find_origin(source)))
    except ValueError:
        is_place = False
    if not is_place:
        raise BadJobError(
            f"--job-source: '{escape_text(source, 200)}' is no place of job files; write https://host, without a path, "
            "or s3://bucket/prefix"
        )
