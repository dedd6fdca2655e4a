"""Which addresses a server may be talked into connecting to. Pure.

For programs that fetch links given by strangers; a person's own command line may reach its own network. It judges the
address a socket is about to connect to, never a name: a name can resolve to something else a moment later (DNS
rebinding).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

_NAT64: Final = ip_network("64:ff9b::/96")


def public_only(address: str) -> bool:
    """Return whether ``address``, as connected (``fe80::1%eth0`` and mapped forms included), is public and unicast.

    Refused: loopback, private, link-local (cloud metadata), ULA, CGNAT, multicast, unspecified, reserved, and IPv4
    addresses of those kinds inside IPv4-mapped, 6to4, Teredo and NAT64 addresses.
    """
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return all(_public(one) for one in _seen_as(found))


def _public(address: IPv4Address | IPv6Address) -> bool:
    return address.is_global and not address.is_multicast and not address.is_reserved


def _seen_as(address: IPv4Address | IPv6Address) -> tuple[IPv4Address | IPv6Address, ...]:
    """Return every address that a connection to ``address`` may end at."""
    if isinstance(address, IPv4Address):
        return (address,)
    # The next two only stand for an IPv4 address; by themselves they count as private or reserved.
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address in _NAT64:
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    ends = (address.sixtofour, *(address.teredo or ()))
    return (address, *(end for end in ends if end is not None))
