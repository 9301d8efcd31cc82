"""How many file descriptors this process may open, and how many of them are reserved for its own work."""

from __future__ import annotations

import resource

from tocsin.core.net.connection_table import ConnectionLimits

#: Connections to the web process, one for each request in progress there.
MAX_WEB_CONNECTIONS = 500

#: Reserved for Tocsin's own connections to the database, providers and mail servers, and for files.
RESERVE = 256

#: Enough descriptors for every connection that may be admitted.
REQUIRED = ConnectionLimits().total + MAX_WEB_CONNECTIONS + RESERVE

#: Bounds for the number of connections waiting to be accepted. All of them are accepted at once, before idle ones are
#: closed for them.
_MAX_BACKLOG = 2_048
_MIN_BACKLOG = 64

#: A higher limit has no use, and some libraries iterate over every possible descriptor.
_MAX_DESCRIPTORS = 65_536

_soft_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def raise_limit() -> None:
    """Raises the soft limit to the hard limit, up to 65,536. Child processes inherit it."""
    global _soft_limit
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = _MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    _soft_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def attainable() -> int:
    """Returns how many descriptors `tocsin serve` can open when started with this process's limits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY in (soft, hard):
        return _MAX_DESCRIPTORS
    return max(soft, min(hard, _MAX_DESCRIPTORS))


def backlog() -> int:
    """Returns how many connections may wait to be accepted, so that even two full backlogs spare the reserve."""
    spare = _MAX_DESCRIPTORS if _soft_limit == resource.RLIM_INFINITY else _soft_limit - REQUIRED
    return max(_MIN_BACKLOG, min(_MAX_BACKLOG, spare // 2))


def max_connections() -> int:
    """Returns how many client connections leave the reserve untouched."""
    limit = ConnectionLimits().total
    if _soft_limit == resource.RLIM_INFINITY:
        return limit
    return min(limit, max(_soft_limit - RESERVE - 2 * _MIN_BACKLOG, _soft_limit // 4))


def are_scarce(descriptor: int) -> bool:
    """Returns whether only the reserve is left. `descriptor` is a descriptor opened just now; the system always assigns
    the lowest free one."""
    if _soft_limit == resource.RLIM_INFINITY:
        return False
    # With a limit so low that the reserve would take most of it, half is reserved.
    return descriptor >= _soft_limit - min(RESERVE, _soft_limit // 2)
