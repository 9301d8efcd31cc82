"""The periodic tasks of this package."""

from __future__ import annotations

from tocsin.access.audit_log import forwarding, links
from tocsin.core.runtime.periodic_tasks import PeriodicTask


def access_tasks() -> tuple[PeriodicTask, ...]:
    """The tasks of a worker."""
    return (
        PeriodicTask("audit chain", links.link_new, links.LINK_INTERVAL),
        PeriodicTask("audit verification", links.verify_next, links.VERIFY_INTERVAL),
        PeriodicTask("audit forwarding", forwarding.run_once, forwarding.FORWARD_INTERVAL),
    )
