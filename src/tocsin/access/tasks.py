"""The periodic tasks of this package."""

from __future__ import annotations

from tocsin.access import audit_log
from tocsin.core.runtime.periodic_tasks import PeriodicTask


def access_tasks() -> tuple[PeriodicTask, ...]:
    """The tasks of a worker."""
    return (
        PeriodicTask("audit chain", audit_log.link_new, audit_log.LINK_INTERVAL),
        PeriodicTask("audit verification", audit_log.verify_next, audit_log.VERIFY_INTERVAL),
        PeriodicTask("audit forwarding", audit_log.run_once, audit_log.FORWARD_INTERVAL),
    )
