"""The address policy for servers: every kind of address that is not public, in every spelling."""

from __future__ import annotations

import pytest

from resumable.addresses import public_only


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"],
)
def test_public_addresses_are_allowed(address: str) -> None:
    """Also where an IPv6 form leads to a public IPv4 address."""
    assert public_only(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.0.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0",
        "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254",
        "64:ff9b::169.254.169.254", "64:ff9b:1::10.0.0.1", "2002:7f00:1::", "2001:0:7f00:1::", "localhost", "",
        "2130706433", "0x7f.1", "127.1",
    ],
)  # fmt: skip
def test_all_others_are_refused(address: str) -> None:
    """Loopback, private, link-local with the cloud's metadata, CGNAT, multicast, and IPv4 hidden in IPv6."""
    assert not public_only(address)
