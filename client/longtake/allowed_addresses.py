"""Tell which addresses of the network may be connected to where somebody else has named the host."""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Addresses that stand for one of IPv4 behind a translator, which may lead into any network.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class ForbiddenAddressError(Exception):
    """Raised for a host all addresses of which are in networks that are not allowed.

    Args:
        host: Name of the host.
        address: One of its addresses.
    """

    def __init__(self, host: str, address: str) -> None:
        super().__init__(f"{host} is at {address}, which is no public address")


def read_networks(names: Sequence[str]) -> tuple[Network, ...]:
    """Read networks, as in `10.0.0.0/8`.

    Raises:
        ValueError: One is none.
    """
    try:
        return tuple(ipaddress.ip_network(name) for name in names)
    except ValueError as error:
        raise ValueError(f"has a network that is none: {error}; write it as in 10.0.0.0/8") from None


async def find_address(host: str, port: int, networks: Sequence[Network]) -> str:
    """Return an address of a host that may be connected to.

    Connect to this very address: a name that leads to another one a moment later then leads nowhere else.

    Args:
        host: Name or address of the host.
        port: The port.
        networks: Networks that are no public ones, and are allowed.

    Raises:
        ForbiddenAddressError: All its addresses are in networks that are not allowed.
        OSError: There is no such host.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(place[0]) for *_, place in found]
    for address in addresses:
        if may_connect(address, networks):
            return address
    raise ForbiddenAddressError(host, addresses[0])


def may_connect(address: str, networks: Sequence[Network]) -> bool:
    """Tell whether an address is a public one, or in a network that is allowed."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        ip = inner or ip
    if any(ip.version == network.version and ip in network for network in networks):
        return True
    is_site_local = isinstance(ip, ipaddress.IPv6Address) and ip.is_site_local
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or is_site_local)
