"""How many file descriptors this process may open, and how many of them are reserved for its own work."""

from __future__ import annotations

import resource

from tocsin.core.net.connection_table import ConnectionLimits

#: Connections to the web process, one for each request in progress there.
MAX_PAGE_CONNECTIONS = 500

#: Reserved for Tocsin's own connections to the database, providers and mail servers, and for files.
RESERVE = 256

#: Enough descriptors for every connection that may be admitted.
NEEDED = ConnectionLimits().total + MAX_PAGE_CONNECTIONS + RESERVE

#: Bounds for the number of connections waiting to be accepted. All of them are accepted at once, before idle ones are
#: closed for them.
_MAX_BACKLOG = 2_048
_MIN_BACKLOG = 64

#: A higher limit has no use, and some libraries iterate over every possible descriptor.
_HIGHEST = 65_536

_soft_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def raise_limit() -> None:
    """Raises the soft limit to the hard limit, up to 65,536. Child processes inherit it."""
    global _soft_limit
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _HIGHEST if hard == resource.RLIM_INFINITY else min(hard, _HIGHEST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    _soft_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def attainable() -> int:
    """Returns how many descriptors `tocsin serve` can open when started with this process's limits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY in (soft, hard):
        return _HIGHEST
    return max(soft, min(hard, _HIGHEST))


def backlog() -> int:
    """Returns how many connections may wait to be accepted, so that even two full backlogs spare the reserve."""
    spare = _HIGHEST if _soft_limit == resource.RLIM_INFINITY else _soft_limit - NEEDED
    return max(_MIN_BACKLOG, min(_MAX_BACKLOG, spare // 2))


def most_connections() -> int:
    """Returns how many client connections leave the reserve untouched."""
    wanted = ConnectionLimits().total
    if _soft_limit == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(_soft_limit - RESERVE - 2 * _MIN_BACKLOG, _soft_limit // 4))


def are_scarce(number: int) -> bool:
    """Returns whether only the reserve is left. `number` is a descriptor opened just now; the system always assigns the
    lowest free one."""
    if _soft_limit == resource.RLIM_INFINITY:
        return False
    # With a limit so low that the reserve would take most of it, half is reserved.
    return number >= _soft_limit - min(RESERVE, _soft_limit // 2)
