"""The values of an alert that conditions and texts can use, and its SLA moments. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.alerts.commands import AlertState
from tocsin.core.reasons import Reason, translatable
from tocsin.workflows.definition.definition import Trigger
from tocsin.workflows.run.triggers import is_acknowledged
from tocsin.workflows.states import SlaMoment

#: The fields offered in conditions, with labels. Tags and custom fields go by their own names.
LABELS: Mapping[str, str] = {
    "status": translatable("state of the alert"),
    "acknowledged": translatable("whether acknowledged"),
    "acknowledged_by": translatable("acknowledged by"),
    "owner": translatable("owner"),
    "priority": translatable("priority"),
    "subject": translatable("subject"),
    "client": translatable("client"),
    "site": translatable("site"),
    "team": translatable("team"),
    "integration": translatable("integration"),
    "source": translatable("source"),
    "source_name": translatable("source name"),
    "source_id": translatable("ticket or source id"),
    "source_status": translatable("status at the source"),
    "source_agent": translatable("agent at the source"),
    "requester": translatable("requester"),
    "short_text": translatable("short text"),
    "long_text": translatable("long text"),
    "count": translatable("messages counted"),
    "minutes_open": translatable("minutes since the opening"),
    "what": translatable("what happened"),
    "ticket_type": translatable("ticket type"),
    "category": translatable("category"),
    "vip": translatable("VIP"),
}


@dataclass(frozen=True, slots=True)
class WorkflowFacts:
    """An alert as a run sees it."""

    state: AlertState
    #: As returned by `outbound.alert_values.of_alerts`.
    values: Mapping[str, Any]
    dry_run: bool = False
    #: Values of custom fields.
    custom: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    #: The time zone of dates without an offset.
    zone: str = "UTC"
    #: The SLA of the active policy by moment, as durations from the alert's creation.
    sla: Mapping[str, timedelta] = field(default_factory=dict)
    #: The group that owns the alert's integration, and the groups it pages.
    groups: frozenset[int] = frozenset()
    #: The groups that it pages, in their order; if it pages none, the one that owns its integration.
    recipient_groups: tuple[int, ...] = ()

    @property
    def has_responder(self) -> bool:
        """Whether the alert is acknowledged or assigned."""
        return is_acknowledged(self.state)

    @property
    def responder_names(self) -> str:
        """The names of the assignee or the acknowledgers."""
        return self.state.owner_name or " and ".join(one.name for one in self.state.acknowledged.values())


def payload(facts: WorkflowFacts, cause: Reason, now: datetime) -> dict[str, Any]:
    """All values for conditions by name; tags and custom fields also as `tags^name` and `custom^name`."""
    acknowledged = [one.name for one in facts.state.acknowledged.values()]
    return {
        **facts.custom,
        **facts.tags,
        **facts.values,
        "tags": dict(facts.tags),
        "custom": dict(facts.custom),
        "acknowledged": bool(acknowledged),
        "acknowledged_by": acknowledged,
        "minutes_open": int((now - facts.state.opened_at) / timedelta(minutes=1)),
        "what": str(cause),
    }


def sla_moment(trigger: Trigger, facts: WorkflowFacts) -> datetime | None:
    """The trigger's SLA moment in UTC: the ticket's, or else the policy's; None if the alert has neither."""
    if trigger.moment is SlaMoment.OPENING:
        return facts.state.opened_at + timedelta(seconds=trigger.within)
    key = str(trigger.moment)
    ticket_moment = moment_of(facts.custom.get(key, ""), facts.zone)
    return (
        ticket_moment if ticket_moment is not None or key not in facts.sla else facts.state.opened_at + facts.sla[key]
    )


def moment_of(text: str, zone: str) -> datetime | None:
    """Parses a ticket's date (ISO 8601; in `zone` if it has no offset); None if it is invalid.

    Halo writes years before 1971 for "not set".
    """
    try:
        parsed = datetime.fromisoformat(text.strip())
        if parsed.year < 1971:
            return None
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
