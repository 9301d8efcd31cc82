"""How many file descriptors this process may have open, and how many of them are kept for its own work."""

from __future__ import annotations

import resource

from tocsin.core.net.connection_table import ConnectionLimits

#: Connections to the process of the pages, one for each request that it works on.
MAX_PAGE_CONNECTIONS = 500

#: Kept for what Tocsin opens itself: connections to the database, providers and mail servers, and files.
RESERVE = 256

#: As many as are needed for every connection that is admitted.
NEEDED = ConnectionLimits().total + MAX_PAGE_CONNECTIONS + RESERVE

#: Connections that may wait to be accepted. All of them are accepted at once, before idle ones are closed for them.
_MAX_BACKLOG = 2_048
_MIN_BACKLOG = 64

#: More than this has no use, and some libraries go through all possible numbers.
_HIGHEST = 65_536

_soft_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def raise_limit() -> None:
    """Raises the soft limit to the hard limit, at most to 65,536. Child processes inherit it."""
    global _soft_limit
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _HIGHEST if hard == resource.RLIM_INFINITY else min(hard, _HIGHEST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    _soft_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def attainable() -> int:
    """How many descriptors `tocsin serve` may have open if it is started with this process's limits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY in (soft, hard):
        return _HIGHEST
    return max(soft, min(hard, _HIGHEST))


def backlog() -> int:
    """How many connections may wait to be accepted, so that even two bursts of them leave the reserve alone."""
    spare = _HIGHEST if _soft_limit == resource.RLIM_INFINITY else _soft_limit - NEEDED
    return max(_MIN_BACKLOG, min(_MAX_BACKLOG, spare // 2))


def most_connections() -> int:
    """How many connections of senders leave the reserve alone."""
    wanted = ConnectionLimits().total
    if _soft_limit == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(_soft_limit - RESERVE - 2 * _MIN_BACKLOG, _soft_limit // 4))


def are_scarce(number: int) -> bool:
    """Whether only the reserve is left, as a descriptor that was just opened has this `number`: a new one always gets
    the lowest that is free."""
    if _soft_limit == resource.RLIM_INFINITY:
        return False
    # Under a limit so low that the reserve would take most of it, half is kept.
    return number >= _soft_limit - min(RESERVE, _soft_limit // 2)
