"""Creates alerts by hand, from the API or the web: whom they page, and their first timeline entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tocsin.access import boundary
from tocsin.alerts.change_handlers import PagingConfig, PagingMode
from tocsin.alerts.commands import Actor, NewEvent
from tocsin.alerts.new_alert import NewAlert
from tocsin.alerts.service import create_manual_alert
from tocsin.alerts.states import CommandChannel, EventKind, Priority
from tocsin.core.reasons import as_reason, joined
from tocsin.escalation import reasons
from tocsin.escalation.models import Policy
from tocsin.escalation.policy import policy as policies

#: The source name of a manually created alert.
SOURCE = "manual"


@dataclass(frozen=True, slots=True)
class ManualAlert:
    """A problem as a user describes it, and whom to notify."""

    subject: str
    #: None: the policy's default priority, or high without a policy.
    priority: Priority | None = None
    policy: Policy | None = None
    user_ids: tuple[int, ...] = ()
    group_ids: tuple[int, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    custom: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def open_alert(new: ManualAlert, *, actor: Actor, username: str, via: CommandChannel, now: datetime) -> int:
    """Creates the alert, starts paging as requested, and returns the alert's id.

    Without a policy and recipient users the alert pages nobody.
    """
    paging = _paging(new)
    alert = NewAlert(
        id=0,
        priority=new.priority or _default_priority(new.policy),
        subject=new.subject,
        opened_at=now,
        source=SOURCE,
        source_name=username,
        columns=new.columns,
        tags=new.tags,
        custom=new.custom,
        group_ids=_owners(new),
    )
    user = actor.person
    if new.note:
        reason = reasons.CREATED_WITH_NOTE(actor=user, note=new.note.rstrip("."))
    else:
        reason = reasons.CREATED_BY(actor=user)
    if paging.mode is PagingMode.LOG_ONLY:
        reason = joined(reason, as_reason(paging.reason), separator=" ")
    data = {"note": new.note} if new.note else {}
    event = NewEvent(0, EventKind.OPENED, now, actor, reason, via, data)
    return create_manual_alert(alert, paging, event, now=now)


def _owners(new: ManualAlert) -> tuple[int, ...]:
    """Returns the groups to which the alert belongs, besides those that it notifies."""
    if new.policy is not None and new.policy.group_id is not None:
        return (new.policy.group_id,)
    limit = boundary.current()
    # Whoever opens an alert must see it.
    return tuple(sorted(limit.groups)) if limit is not None and not new.group_ids else ()


def _paging(new: ManualAlert) -> PagingConfig:
    if new.policy is None and not new.user_ids:
        reason = reasons.MANUAL_WITHOUT_RECIPIENTS()
        return PagingConfig(PagingMode.LOG_ONLY, None, new.user_ids, new.group_ids, reason)
    reason = reasons.MANUAL_BY_POLICY(policy=new.policy.name) if new.policy else reasons.MANUAL_BY_RECIPIENTS()
    version = new.policy.current_version_id if new.policy else None
    return PagingConfig(PagingMode.PAGE, version, new.user_ids, new.group_ids, reason)


def _default_priority(policy: Policy | None) -> Priority:
    if policy is None or policy.current_version is None:
        return Priority.HIGH
    return policies.load(policy.current_version.definition).default_priority
