"""Addresses that are not public are told from others, and a name that leads there alone is not connected to."""

import ipaddress

import pytest

from longtake.allowed_addresses import ForbiddenAddressError, find_address, may_connect, read_networks


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::",
        "2001:0:4136:e378:8000:63bf:f5ff:fffe", "::7f00:1", "64:ff9b:1::a00:1", "fec0::1", "2001:db8::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_not_connected_to(address: str) -> None:
    assert not may_connect(address, ())


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:93.184.216.34"])
def test_public_addresses_are(address: str) -> None:
    assert may_connect(address, ())


def test_networks_that_are_named_are() -> None:
    networks = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))

    assert may_connect("10.1.2.3", networks)
    assert may_connect("::ffff:10.1.2.3", networks)
    assert may_connect("fd00::1", networks)
    assert not may_connect("172.16.0.1", networks)
    assert not may_connect("169.254.169.254", networks)


async def test_a_name_leads_to_an_address_that_is_allowed_or_nowhere() -> None:
    assert await find_address("127.0.0.1", 80, read_networks(["127.0.0.0/8"])) == "127.0.0.1"
    for name in ("localhost", "127.0.0.1", "127.1", "2130706433", "0x7f.1", "0"):
        with pytest.raises(ForbiddenAddressError, match="which is no public address"):
            await find_address(name, 80, read_networks(["10.0.0.0/8"]))


def test_a_network_that_is_none_is_told() -> None:
    with pytest.raises(ValueError, match=r"10.0.0.1/8 has host bits set; write it as in 10.0.0.0/8"):
        read_networks(["10.0.0.1/8"])
