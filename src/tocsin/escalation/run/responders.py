"""Pages the assignee, reminds acknowledgers, and restarts escalation when they do not answer in time. Pure."""

from __future__ import annotations

from datetime import datetime

from tocsin.alerts import lifecycle
from tocsin.alerts.change_handlers import PagingMode
from tocsin.alerts.commands import SYSTEM, ExpireAcknowledgement, Unassign
from tocsin.alerts.states import CommandChannel, EventKind
from tocsin.core.reasons import Ago, Person
from tocsin.escalation import reasons
from tocsin.escalation.run.decision_builder import DecisionBuilder
from tocsin.escalation.run.run_state import PageUser, SendAckReminder, with_progress
from tocsin.escalation.run.run_status import ACK_REMINDER_TIMEOUT, continue_run, has_required_acks, restart_run
from tocsin.escalation.run.target_resolution import TargetUser
from tocsin.notify.rules import notification_rules


def page_assignee(builder: DecisionBuilder) -> None:
    """Pages the user to whom somebody else assigned the alert, at once, by their own notification rules."""
    user_id, last, progress = builder.alert.owner_id, builder.alert.last_event, builder.run.progress
    builder.run = with_progress(builder.run, assignee_page_at=None)
    if user_id is None:
        return
    recipient, user = builder.context.active_users.get(user_id), builder.alert.owner
    if recipient is None:
        builder.log(EventKind.PAGE_FAILED, reasons.ASSIGNEE_INACTIVE(user=user), user_id=user_id)
        return
    is_assignment = last is not None and last.kind is EventKind.ASSIGNED
    actor = Person(last.actor_name, last.actor_id) if last is not None and is_assignment else Person(SYSTEM.name)
    target = TargetUser(user_id, user.name, reasons.ASSIGNEE())
    reason = reasons.PAGED_AS_ASSIGNEE(actor=actor, user=user)
    builder.pages.append(
        PageUser(target, builder.now, reason, 0, 0, is_manual=True, priority=builder.alert.priority, is_assignment=True)
    )
    last_page_at = notification_rules.last_page_at(
        recipient, notification_rules.USER_RULES, builder.alert.priority, builder.now
    )
    builder.run = with_progress(builder.run, paging_until={**progress.paging_until, user_id: last_page_at})
    paged = reasons.ASSIGNEE_NOTIFIED(user=user)
    if builder.run.mode is PagingMode.DRY_RUN:
        paged = reasons.ASSIGNEE_WOULD_BE_PAGED(user=user)
    elif progress.accept_by is not None:
        paged = reasons.ASSIGNEE_PAGED(user=user, timeout=builder.run.plan.acknowledge_timeout)
    builder.log(EventKind.ASSIGNEE_PAGED, paged, people=[user_id])


def end_unaccepted_assignment(builder: DecisionBuilder) -> None:
    """Unassigns an alert that its assignee did not accept in time: escalation restarts."""
    note = reasons.NOT_ACCEPTED(user=builder.alert.owner, timeout=builder.run.plan.acknowledge_timeout)
    command = Unassign(actor=SYSTEM, via=CommandChannel.POLICY, note=note)
    builder.commands.append(command)
    builder.alert = lifecycle.apply(builder.alert, command, builder.now).state
    builder.run = restart_run(builder.run, builder.now)
    builder.log(EventKind.ESCALATION_STARTED, reasons.RESTARTED())


def send_ack_reminder(builder: DecisionBuilder, user_id: int, at: datetime) -> None:
    """Asks a user who acknowledged whether they still work on the alert."""
    entry = builder.alert.acknowledged[user_id]
    progress = builder.run.progress
    builder.run = with_progress(builder.run, ack_reminder_sent_at={**progress.ack_reminder_sent_at, user_id: at})
    user = Person(entry.name, user_id)
    since = max(entry.at, progress.ack_confirmed_at.get(user_id, entry.at))
    reason = reasons.ACK_REMINDER(user=user, ago=Ago(at - since))
    builder.ack_reminders.append(SendAckReminder(user_id, reason))
    is_dry_run = builder.run.mode is PagingMode.DRY_RUN
    sent = reasons.ACK_REMINDER_WOULD_BE_SENT if is_dry_run else reasons.ACK_REMINDER_SENT
    builder.log(EventKind.ACK_REMINDER_SENT, sent(user=user, timeout=ACK_REMINDER_TIMEOUT), user_id=user_id)


def expire_acknowledgement(builder: DecisionBuilder, user_id: int) -> None:
    """Removes an acknowledgement whose reminder was not answered: escalation restarts or goes on."""
    had_enough = has_required_acks(builder.run.plan, builder.alert)
    command = ExpireAcknowledgement(actor=SYSTEM, via=CommandChannel.POLICY, user_id=user_id)
    builder.commands.append(command)
    builder.alert = lifecycle.apply(builder.alert, command, builder.now).state
    reminders_sent = {user: at for user, at in builder.run.progress.ack_reminder_sent_at.items() if user != user_id}
    builder.run = with_progress(builder.run, ack_reminder_sent_at=reminders_sent)
    if not builder.alert.acknowledged:
        builder.run = restart_run(builder.run, builder.now)
        builder.log(EventKind.ESCALATION_STARTED, reasons.RESTARTED())
    elif had_enough and not has_required_acks(builder.run.plan, builder.alert):
        builder.run = continue_run(builder.run, builder.alert, builder.now)
        builder.log(EventKind.ESCALATION_CONTINUED, reasons.TOO_FEW_ACKS())
