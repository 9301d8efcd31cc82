"""Limits per client address, so that no single client exhausts shared capacity. Knows no sockets."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

#: A provider assigns at least a /64 to one subscriber, who can use every address in it (RFC 6177, 2).
_IPV6_SUBSCRIBER = 64


def client_key(address: str | None) -> str:
    """Returns the key by which a client is counted: its IPv4 address, or the /64 of its IPv6 address."""
    if address is None or ":" not in address:
        return address or ""
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, _IPV6_SUBSCRIBER), strict=False))


class ClientLimit:
    """Counts an activity per client and in total. Not thread-safe."""

    def __init__(self, per_client: int, total: int) -> None:
        self._per_client = per_client
        self._total = total
        self._count = 0
        self._by_client: Counter[str] = Counter()

    @contextmanager
    def acquire(self, key: str | None) -> Iterator[bool]:
        """Counts one activity for the duration of the block. `key` None is an unknown client, which has only the total
        limit. Yields False, and counts nothing, if a limit is reached."""
        if self._count >= self._total or (key is not None and self._by_client[key] >= self._per_client):
            yield False
            return
        if key is None:
            key = ""
        self._count += 1
        self._by_client[key] += 1
        try:
            yield True
        finally:
            self._count -= 1
            self._by_client[key] -= 1
            if not self._by_client[key]:
                del self._by_client[key]
