"""Describes the next action on one alert, with its time. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _

from tocsin.alerts.models import Alert
from tocsin.alerts.states import AlertStatus
from tocsin.core.db import database
from tocsin.core.reasons import Reason
from tocsin.escalation.actions import next_steps
from tocsin.escalation.actions.forecast import NextAction
from tocsin.escalation.models import EscalationRun
from tocsin.escalation.policy.policy import AcknowledgeEffect
from tocsin.escalation.run.run_state import RunStatus


@dataclass(frozen=True, slots=True)
class UpcomingAction:
    """The next action: its time (None without a timer), text and additional detail."""

    at: datetime | None
    text: str
    detail: str = ""
    #: `now` while nobody has answered, `wait` while a timer runs, else empty.
    tone: str = ""


def next_action_of(alert: Alert, now: datetime) -> UpcomingAction:
    """Return what happens next if nobody responds."""
    match AlertStatus(alert.status):
        case AlertStatus.ON_HOLD:
            return UpcomingAction(alert.hold_until, _("Comes back from hold"), tone="wait")
        case AlertStatus.ASSIGNED:
            owner = alert.owner.display_name if alert.owner else alert.owner_name
            if (step := steps_of([alert.pk], now).get(alert.pk)) is not None:
                awaited = _("Unless %(name)s accepts the alert: acknowledges it, or assigns it to themselves.")
                text = f"{capitalised(step.summary).removesuffix('.')}."
                return UpcomingAction(step.at, text, awaited % {"name": owner}, "wait")
            return UpcomingAction(None, _("Paging stopped. Assigned to %(name)s.") % {"name": owner})
        case AlertStatus.OPEN:
            return _next_action_of_open(alert, now)
        case AlertStatus.MERGED:
            return UpcomingAction(
                None, _("Nothing: act on alert %(number)s instead.") % {"number": alert.merged_into_id}
            )
        case AlertStatus.CLOSED | AlertStatus.CANCELLED:
            return UpcomingAction(None, _("Nothing: it is over."))


def has_pending_reminder(alert: Alert, user_id: int) -> bool:
    """Return whether the user has an unanswered "Still on it?" acknowledgement reminder for the alert."""
    runs = EscalationRun.objects.filter(alert=alert, progress__ack_reminder_sent_at__has_key=str(user_id))
    return alert.status == AlertStatus.OPEN and runs.exclude(status=RunStatus.TERMINATED).exists()


def awaits_acceptance(alert: Alert) -> bool:
    """Return whether the assignee was paged about the assignment and has not accepted yet."""
    runs = EscalationRun.objects.filter(alert=alert, progress__has_key="accept_by")
    return runs.exclude(status=RunStatus.TERMINATED).exists()


def steps_of(alert_ids: list[int], now: datetime) -> dict[int, NextAction]:
    """Return {alert: next action} for many alerts. Alerts without a pending action are absent."""
    if not alert_ids:
        return {}
    with database.transaction() as connection:
        return next_steps.next_steps(connection, alert_ids, now)


def capitalised(summary: Reason) -> str:
    """Render a summary and capitalize its first letter."""
    sentence = summary.localized()
    return sentence[:1].upper() + sentence[1:]


def _next_action_of_open(alert: Alert, now: datetime) -> UpcomingAction:
    run = (
        EscalationRun.objects.filter(alert=alert)
        .exclude(status=RunStatus.TERMINATED)
        .select_related("version__policy")
        .first()
    )
    if run is None:
        return UpcomingAction(None, _("Nothing is planned: no policy works on this alert."))
    policy = run.version.policy.name if run.version and run.version.policy else ""
    step = steps_of([alert.pk], now).get(alert.pk)
    if step is None:
        tone = "now" if run.status == RunStatus.EXHAUSTED else ""
        return UpcomingAction(None, run.reason.localized() or _("Nothing is planned."), policy, tone)
    # Once paging has stopped, what would stop it no longer matters.
    is_stopped = run.status in (RunStatus.STOPPED, RunStatus.PAUSED)
    detail = run.reason.localized() if is_stopped else _describe_stop(run)
    tone = "now" if run.status == RunStatus.ACTIVE else "wait"
    text = f"{capitalised(step.summary).removesuffix('.')}."
    return UpcomingAction(None if step.is_recheck else step.at, text, f"{policy}. {detail}" if policy else detail, tone)


def _describe_stop(run: EscalationRun) -> str:
    """Describe what stops the escalation, according to the policy's acknowledgement settings."""
    acknowledge_settings = run.version.definition.get("acknowledge", {}) if run.version else {}
    required_acks = acknowledge_settings.get("people", 1)
    match acknowledge_settings.get("effect", AcknowledgeEffect.STOP):
        case AcknowledgeEffect.CONTINUE:
            return _("Stops when somebody takes or closes it.")
        case AcknowledgeEffect.PAUSE:
            return _("Pauses when somebody acknowledges it, stops when somebody takes or closes it.")
        case _ if required_acks > 1:
            template = _("Stops when %(count)d people have acknowledged it, or somebody takes or closes it.")
            return template % {"count": required_acks}
        case _:
            return _("Stops when somebody acknowledges, takes or closes it.")
