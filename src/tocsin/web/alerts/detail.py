"""The alert detail view with its timeline and its buttons. Every button is a POST; a GET never changes anything."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.db.models import Model, Q, QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access import boundary
from tocsin.access.roles import Permission, PermissionScope, Role, permission_scope
from tocsin.alerts import service
from tocsin.alerts.commands import COMMAND_CLASSES, Actor, Assign, BaseCommand, Command, Hold, Reply
from tocsin.alerts.lifecycle import REOPEN_WINDOW, UNDO_WINDOW
from tocsin.alerts.models import Acknowledgement, Alert, AlertEvent
from tocsin.alerts.service import VisibleAlert, find_alerts
from tocsin.alerts.states import ACTIVE, LIFECYCLE_EVENTS, AlertStatus, CommandChannel, CommandKind, EventKind
from tocsin.calls import service as calls
from tocsin.calls.models import PhoneCall
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import as_reason, local_moment
from tocsin.core.validation import inputs
from tocsin.escalation import explain
from tocsin.escalation.models import EscalationRun
from tocsin.escalation.policy import references
from tocsin.escalation.run import run_store
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.models import GroupMember, InboundMessage
from tocsin.notify.inbound import responder_actions
from tocsin.notify.models import Delivery, Notification
from tocsin.notify.states import DeliveryState, Purpose, furthest
from tocsin.notify.text import signed_links
from tocsin.notify.text.signed_links import LinkSubject
from tocsin.oncall import loader
from tocsin.outbound import writeback
from tocsin.people import permissions
from tocsin.people.models import ContactMethod, Membership, OutOfOffice, User
from tocsin.people.permissions import Viewer
from tocsin.resources import visibility
from tocsin.web import outbound
from tocsin.web.alerts import queries
from tocsin.web.alerts.views import SNOOZE_CHOICES, done_text
from tocsin.web.http.middleware import zone
from tocsin.web.http.request import (
    SignedInRequest,
    alert_actor,
    find_visible_alert,
    may_respond,
    number_of,
    render_view,
    require_response,
    requires,
)
from tocsin.web.ui.formatting import is_long, safe_html
from tocsin.web.ui.forms import channel_name
from tocsin.workflows import views
from tocsin.workflows.definition import SlaMoment

#: Number of newest events, notifications and messages shown initially, and after "show all".
INITIAL_ENTRIES = 300
MAX_ENTRIES = 2000


# Hebrew, Arabic and related scripts, with their presentation forms.
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_SEPARATORS = re.compile(" → |; ")


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    at: datetime
    #: Colour of the line's marker: `now`, `ok`, `wait`, `accent` or empty.
    tone: str
    title: str
    detail: str = ""
    #: How far a message came, for the line of a delivery.
    state: DeliveryState | None = None
    #: Text that a user wrote.
    quote: str = ""
    #: The inbound message behind the line.
    message: InboundMessage | None = None


@dataclass(frozen=True, slots=True)
class AlertTimeline:
    #: Newest first. The entries go back to a moment after which nothing is missing.
    entries: Sequence[TimelineEntry]
    paged: Sequence[NotifiedPerson]
    #: Newest first.
    messages: Sequence[InboundMessage]
    more_messages: bool
    #: Whether there are older entries.
    is_cut: bool


@dataclass(frozen=True, slots=True)
class NotifiedPerson:
    """A user or group contact who was paged about the alert, by which channels, and how far the pages came."""

    name: str
    channels: str
    state: DeliveryState


_TONES = {
    EventKind.OPENED: "now",
    EventKind.REOPENED: "now",
    EventKind.ACKNOWLEDGED: "ok",
    EventKind.ASSIGNED: "ok",
    EventKind.CLOSED: "ok",
    EventKind.CANCELLED: "ok",
    EventKind.STEP_FIRED: "accent",
    EventKind.ESCALATION_STARTED: "accent",
    EventKind.ACK_REMINDER_SENT: "accent",
    EventKind.NOTICE_SENT: "accent",
    EventKind.REPLIED: "accent",
    EventKind.WORKFLOW: "accent",
    EventKind.ESCALATED: "accent",
    EventKind.ESCALATION_EXHAUSTED: "now",
    EventKind.STEP_EMPTY: "now",
    EventKind.PAGE_FAILED: "now",
    EventKind.ACKNOWLEDGEMENT_EXPIRED: "wait",
    EventKind.PUT_ON_HOLD: "wait",
    EventKind.GROUP_JOINED: "wait",
    EventKind.GROUP_MEMBER_ENDED: "ok",
    EventKind.UNASSIGNED: "wait",
    EventKind.UNACKNOWLEDGED: "wait",
    EventKind.UPDATED: "",
}


def read(alert: Alert, now: datetime, limit: int = INITIAL_ENTRIES) -> AlertTimeline:
    """Return the timeline, the recipients and the newest messages, at most `limit` of each kind, in three SQL
    statements."""
    events, more_events = _newest(AlertEvent.objects.filter(alert=alert), limit)
    pages = Notification.objects.filter(alert=alert).select_related("user", "group_contact")
    notifications, more_notifications = _newest(pages.prefetch_related("deliveries"), limit)
    messages, more_messages = _newest(InboundMessage.objects.filter(alert=alert).defer("raw", "headers"), limit)
    # If one kind of entry is only complete from some moment on, all kinds are cut there, so that no period is
    # misleading.
    cutoffs = [
        *([events[-1].at] if more_events else []),
        *([notifications[-1].created_at] if more_notifications else []),
        *([messages[-1].received_at] if more_messages else []),
    ]
    # A message that was added to the alert already has a line for its event.
    linked_message_ids = {event.data.get("message_id") for event in events if event.data}
    entries = [
        *(_event_entry(event) for event in events),
        *(entry for notification in notifications for entry in _notification_entries(notification, now)),
        *(
            _message_entry(alert, message)
            for message in messages
            if message.status == MessageStatus.APPENDED and str(message.pk) not in linked_message_ids
        ),
    ]
    # A stable sort: among entries of the same moment the later one in this order stays on top.
    entries.sort(key=lambda entry: entry.at, reverse=True)
    complete_entries = [entry for entry in entries if not cutoffs or entry.at >= max(cutoffs)]
    return AlertTimeline(complete_entries, _paged(notifications), messages, more_messages, bool(cutoffs))


def _newest[Row: Model](rows: QuerySet[Row], limit: int) -> tuple[list[Row], bool]:
    """Return the newest rows, and whether there are more."""
    newest_rows = list(rows.order_by("-pk")[: limit + 1])
    return newest_rows[:limit], len(newest_rows) > limit


def _event_entry(event: AlertEvent) -> TimelineEntry:
    data = event.data or {}
    quote = str(data.get("text") or "")
    via = {
        CommandChannel.EMAIL: _("by email"),
        CommandChannel.API: _("through the API"),
        CommandChannel.SMS: _("by SMS"),
        CommandChannel.VOICE: _("on the phone"),
        CommandChannel.PUSH: _("by push"),
        CommandChannel.CHAT: _("in the chat"),
        CommandChannel.HALO: _("in Halo"),
    }.get(CommandChannel(event.via) if event.via in set(CommandChannel) else CommandChannel.WEB, "")
    first, _separator, more = event.reason.localized().partition("\n")
    kind = EventKind(event.kind) if event.kind in set(EventKind) else EventKind.UPDATED
    # The step's condition did not match, or its users are already being paged: neither is a problem.
    is_informational = bool(data.get("left_out") or data.get("busy"))
    return TimelineEntry(
        event.at,
        "" if is_informational else _TONES.get(kind, ""),
        add_direction_marks(first) or event.kind,
        more or via,
        quote=quote,
    )


def add_direction_marks(text: str) -> str:
    """Add left-to-right marks around arrows and semicolons if the sentence contains right-to-left text, so that the old
    value remains in front of the new one."""
    return _SEPARATORS.sub("\u200e\\g<0>\u200e", text) if _RIGHT_TO_LEFT.search(text) else text


def _message_entry(alert: Alert, message: InboundMessage) -> TimelineEntry:
    title = _("%(source)s sent it again; counted, no page") % {"source": alert.source or _("The source")}
    return TimelineEntry(
        message.received_at, "wait", title, f"{message.status}: {message.reason.localized()}", message=message
    )


def _notification_entries(notification: Notification, now: datetime) -> Iterable[TimelineEntry]:
    heading = f"{channel_name(notification.channel)} → {recipient(notification)}"
    for delivery in notification.deliveries.all():
        suffix = "" if delivery.purpose == Purpose.PAGE else f" ({_purpose(Purpose(delivery.purpose))})"
        at, detail = _delivery_detail(notification, delivery, now)
        state = delivery.state
        yield TimelineEntry(at, _DELIVERY_TONES.get(state, ""), f"{heading}{suffix}", detail, state)


#: Red is for what did not arrive; what waits or was cancelled is no problem.
_DELIVERY_TONES = {
    DeliveryState.ANSWERED: "ok",
    DeliveryState.DELIVERED: "ok",
    DeliveryState.SENT: "accent",
    DeliveryState.FAILED: "now",
    DeliveryState.SANDBOXED: "wait",
}


def _delivery_detail(notification: Notification, delivery: Delivery, now: datetime) -> tuple[datetime, str]:
    """Return the moment of a delivery's line, and why it is as it is."""
    why = delivery.reason or notification.reason
    match delivery.state:
        case DeliveryState.QUEUED:
            parts = [(delivery.error or why).localized()]
            if delivery.due_at > now:
                parts.insert(0, _("until %(time)s") % {"time": f"{timezone.localtime(delivery.due_at):%H:%M:%S}"})
            at = delivery.queued_at
        case DeliveryState.CANCELLED:
            at, parts = delivery.ended_at or delivery.due_at, [why.localized()]
        case DeliveryState.FAILED:
            at = delivery.ended_at or delivery.sent_at or delivery.due_at
            parts = [delivery.provider_name, delivery.error.localized(), why.localized()]
        case DeliveryState.SANDBOXED:
            at, parts = delivery.sent_at or delivery.ended_at or delivery.due_at, [why.localized()]
        case _:
            at = delivery.sent_at or delivery.queued_at
            seconds = (at - delivery.due_at).total_seconds()
            late = _("%(seconds).1f s late") % {"seconds": max(0.0, seconds)}
            parts = [delivery.provider_name, late, delivery.reason.localized(), notification.reason.localized()]
    return at, " · ".join(part for part in parts if part)


def _paged(notifications: Sequence[Notification]) -> list[NotifiedPerson]:
    """Return each recipient once, in the order in which they were first paged."""
    by_recipient: dict[str, list[Notification]] = {}
    for notification in reversed(notifications):
        if notification.purpose == Purpose.PAGE:
            by_recipient.setdefault(recipient(notification), []).append(notification)
    return [_notified_person(name, recipient_notifications) for name, recipient_notifications in by_recipient.items()]


def _notified_person(name: str, notifications: Sequence[Notification]) -> NotifiedPerson:
    channels = ", ".join(dict.fromkeys(channel_name(n.channel) for n in notifications))
    return NotifiedPerson(name, channels, furthest(d.state for n in notifications for d in n.deliveries.all()))


def recipient(notification: Notification) -> str:
    """Return the recipient's display name."""
    if notification.user is not None:
        return notification.user.display_name
    if notification.group_contact is not None:
        return notification.group_contact.label
    return notification.label or _("a deleted user")


def _purpose(purpose: Purpose) -> str:
    match purpose:
        case Purpose.PAGE:
            return _("page")
        case Purpose.ALL_CLEAR:
            return _("all clear")
        case Purpose.ACK_REMINDER:
            return _("acknowledgement reminder")
        case Purpose.NOTICE:
            return _("notice")
        case Purpose.TEST:
            return _("test")


# ---------- assignees

_RESPONDERS = [role for role in Role if permission_scope(role, Permission.RESPOND) is not PermissionScope.NONE]


@dataclass(frozen=True, slots=True)
class Assignee:
    """A user with what to know before paging them, such as "Ann (on call, email only)"."""

    user_id: int
    text: str


@dataclass(frozen=True, slots=True)
class AssigneeGroup:
    label: str
    people: tuple[Assignee, ...]


def assignees_of(alert_id: int, viewer_id: int, now: datetime) -> list[AssigneeGroup]:
    """Return the users who may respond: on call, members of the alert's groups, everybody else. Always three groups."""
    on_call, members, group_ids = _people_of_alert(alert_id, now)
    # A membership may make an observer a responder in its group.
    elevated = Membership.objects.filter(group__in=group_ids, role__in=_RESPONDERS).values("user")
    responders = User.objects.filter(Q(role__in=_RESPONDERS) | Q(pk__in=elevated), is_active=True, clients=[])
    users = {user.pk: user for user in responders.exclude(pk=viewer_id).order_by("name", "username")}
    absent = set(OutOfOffice.objects.filter(starts_at__lte=now, ends_at__gt=now).values_list("user_id", flat=True))
    methods = ContactMethod.objects.filter(is_enabled=True, awaits_code=False)
    channels: dict[int, set[str]] = {}
    for user_id, channel in methods.values_list("user_id", "channel"):
        channels.setdefault(user_id, set()).add(channel)

    def describe(user_id: int) -> Assignee:
        notes = [
            note
            for note, applies in (
                (_("on call"), user_id in on_call),
                (_("out of office"), user_id in absent),
                (_("no contact method"), not channels.get(user_id)),
                (_("email only"), channels.get(user_id) == {"email"}),
            )
            if applies
        ]
        name = users[user_id].display_name
        return Assignee(user_id, f"{name} ({', '.join(notes)})" if notes else name)

    first = [user_id for user_id in on_call if user_id in users]
    second = [user_id for user_id in users if user_id in members and user_id not in on_call]
    rest = [user_id for user_id in users if user_id not in members and user_id not in on_call]
    return [
        AssigneeGroup(label, tuple(describe(user_id) for user_id in ids))
        for label, ids in ((_("On call"), first), (_("Group members"), second), (_("Others"), rest))
    ]


def _people_of_alert(alert_id: int, now: datetime) -> tuple[list[int], set[int], set[int]]:
    """Return who is on call in the groups of the alert's escalation, in order, all members of these groups, and the
    groups."""
    run = EscalationRun.objects.filter(alert=alert_id).order_by("-pk").first()
    if run is None:
        return [], set(), set()
    with database.transaction() as connection:
        plans = run_store.load_plans(connection, {run.version_id})
        group_ids = set(run.recipient_groups)
        if (plan := plans.get(run.version_id)) is not None:
            group_ids |= references(plan).groups
        roles = loader.on_call(connection, group_ids, now)
    on_call = [person.user_id for group_id in sorted(roles) for person in roles[group_id]]
    members = Membership.objects.filter(group__in=group_ids).values_list("user_id", flat=True)
    return list(dict.fromkeys(on_call)), set(members), group_ids


#: Labels of the custom fields that built-in integration types map, in their order; all other fields follow.
_CUSTOM_LABELS = {
    "ticket_type": gettext_lazy("Ticket type"),
    "category": gettext_lazy("Category"),
    "respond_by": gettext_lazy("Respond by"),
    "fix_by": gettext_lazy("Fix by"),
}

_CAN_BE_UNDONE = frozenset(
    (EventKind.ACKNOWLEDGED, EventKind.ASSIGNED, EventKind.UNASSIGNED, EventKind.PUT_ON_HOLD,
     EventKind.RESUMED, EventKind.CLOSED, EventKind.CANCELLED, EventKind.MERGED)
)  # fmt: skip


@require_safe
def alert_detail(request: SignedInRequest, number: int) -> HttpResponse:
    """Render the alert, ordered for a responder who was just woken up."""
    return render_view(
        request,
        "alerts/alert.html",
        alert_context(request, number, request.user, request.viewer),
        partials=("state", "timeline", "aside"),
    )


@require_POST
@requires(Permission.RESPOND)
def command(request: SignedInRequest, number: int, kind: str) -> HttpResponse:
    """Run one alert command, then redirect to the alert with a message about the result."""
    alert = require_response(request.viewer, find_visible_alert(number))
    try:
        alert_command = read_command(request, CommandKind(kind), alert_actor(request.user), CommandChannel.WEB)
        outcome = service.apply_command(alert, alert_command, now=request.now)
    except ValueError:
        raise Http404(_("Unknown command.")) from None
    except Rejected as rejected:
        if rejected.code == "not_found" and not Alert.objects.filter(pk=number).exists():
            raise Http404(rejected.reason.localized()) from None
        messages.warning(request, rejection_text(request, rejected))
    else:
        messages.success(request, outcome.answer.localized())
    return redirect("alert", number)


def read_command(request: SignedInRequest, kind: CommandKind, actor: Actor, via: CommandChannel) -> Command:
    """Build the command from the posted form. Raises Rejected with the field."""
    form = request.POST
    common: dict[str, Any] = {"actor": actor, "via": via, "note": _typed(request, "note", 2000)}
    seen_at = _moment(form.get("seen_at", ""))
    if seen_at is not None and timezone.is_aware(seen_at):
        common["seen_at"] = seen_at
    match kind:
        case CommandKind.ASSIGN:
            return _assign(form.get("user", ""), _typed(request, "name", 200), actor, common)
        case CommandKind.HOLD:
            return Hold(**common, until=_until(request))
        case CommandKind.REPLY:
            return Reply(**common, text=_typed(request, "text", 20_000))
        case CommandKind.MERGE:
            into = number_of(form.get("into", "").strip().removeprefix("#"))
            if into is None:
                raise Rejected("invalid", as_reason(_("Enter the number of the alert to merge into.")), "into")
            return service.merge_into(service.find_alert(into, "into"), BaseCommand(**common))
        case _:
            return COMMAND_CLASSES[kind](**common)  # type: ignore[return-value] # the remaining commands have no fields


def rejection_text(request: SignedInRequest, rejected: Rejected) -> str:
    """Return why the posted command was rejected, and the text that was typed for it, so that it is not lost."""
    reason, text = rejected.reason.localized(), typed_text(request)
    return _("%(reason)s Not saved: “%(text)s”") % {"reason": reason, "text": text} if text else reason


def typed_text(request: SignedInRequest) -> str:
    """Return the text of the posted note, or ""."""
    return _typed(request, "text", 20_000) or _typed(request, "note", 2000)


def _typed(request: SignedInRequest, field: str, max_length: int) -> str:
    """Return a posted text without characters that the database cannot store, cut to `max_length` characters."""
    return inputs.sanitize(request.POST.get(field, ""))[:max_length]


def _assign(user: str, name: str, actor: Actor, common: dict[str, Any]) -> Assign:
    if name.strip():
        return Assign(**common, name=name.strip())
    if not user:
        return Assign(**common, name=actor.name, user_id=actor.user_id)
    assignee = User.objects.filter(pk=number_of(user) or 0, is_active=True).first()
    if assignee is None:
        raise Rejected("invalid", as_reason(_("Choose a user.")), "user")
    return Assign(**common, name=assignee.display_name, user_id=assignee.pk)


def _until(request: SignedInRequest) -> datetime:
    if not (text := request.POST.get("until", "")):
        return request.now + inputs.parse_duration(request.POST.get("for", ""), "for")
    if (moment := _moment(text)) is None:
        raise Rejected("invalid", as_reason(_("Enter an end date and time.")), "until")
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment)


def _moment(text: str) -> datetime | None:
    """Parse a date and time; return None if it is invalid, such as the 31st of February."""
    try:
        return parse_datetime(text)
    except ValueError:
        return None


def alert_context(
    request: SignedInRequest, number: int, user: User, viewer: Viewer, commands: Collection[CommandKind] = CommandKind
) -> dict[str, Any]:
    """Return the context of the alert view and of the signed e-mail link, as `user` may see it and with the buttons of
    `commands`. Raises Http404."""
    found = find_visible_alert(number)
    alert = found.row
    alert_timeline = read(alert, request.now, MAX_ENTRIES if "all" in request.GET else INITIAL_ENTRIES)
    acknowledgements = list(Acknowledgement.objects.filter(alert=alert).select_related("user").order_by("at"))
    sla_moments = queries.load_moments([alert]).get(alert.pk, {})
    text = alert.long_text or alert.short_text
    custom = dict(alert.custom)
    vip = str(custom.pop("vip", "")).lower() in ("true", "1", "yes", "vip")
    actions = [action for action in _actions(alert, user, acknowledgements, request.now) if action.command in commands]
    bar = _action_bar(actions)
    return {
        "alert": alert,
        "is_active": alert.status in ACTIVE,
        "may_act": may_respond(viewer, found),
        "joined": list(GroupMember.objects.filter(alert=alert.pk).order_by("-joined_at")[:50]),
        "unsent": outbound.unsent(alert.pk),
        "ticket": writeback.ticket_of_alert(alert),
        "calls": calls.for_lists(PhoneCall.objects.filter(alert=alert).prefetch_related("legs")),
        "buttons": views.available_buttons(found, request.now),
        "workflow_runs": views.workflow_history(found),
        "is_acknowledged": bool(acknowledgements) and alert.status == AlertStatus.OPEN,
        "acknowledgements": acknowledgements,
        "bar": bar,
        "more_actions": [action for action in actions if action not in bar],
        "description": safe_html(text) if text.strip() and text.strip() != alert.subject else "",
        "is_long": is_long(text),
        "vip": vip,
        # Shown to every user who may see the alert: the number belongs to the requester of the ticket, not to a user.
        "phone": alert.requester_phone,
        "facts": _facts(alert, custom, sla_moments),
        "sla_target": queries.next_target(alert, sla_moments, bool(acknowledgements), request.now)
        if alert.status in ACTIVE
        else None,
        "next": queries.next_action_of(alert, request.now),
        "entries": alert_timeline.entries,
        "is_cut": alert_timeline.is_cut,
        "may_show_all": "all" not in request.GET,
        "paged": alert_timeline.paged,
        "inbound": alert_timeline.messages[:8],
        "inbound_count": len(alert_timeline.messages),
        "more_inbound": alert_timeline.more_messages,
        "undo_until": _undo_until(alert, user, request.now),
        "assignees": assignees_of(alert.pk, user.pk, request.now),
        "snooze_choices": SNOOZE_CHOICES,
    }


@dataclass(frozen=True, slots=True)
class AlertAction:
    """What the reader can do to the alert now."""

    name: str
    command: CommandKind
    label: str
    icon: str
    hint: str = ""
    #: Its shortcut.
    key: str = ""
    #: It opens a form or a question first.
    asks: bool = False


#: The two buttons beside the menu: of each the first that is possible. What the user did last leaves its place to what
#: only opens a form, so that a second tap at the same place does nothing.
_BAR = (("resume", "acknowledge", "reply"), ("assign", "close", "reopen"))


def _action_bar(actions: Sequence[AlertAction]) -> list[AlertAction]:
    by_name = {action.name: action for action in actions}
    found = (next((by_name[name] for name in names if name in by_name), None) for names in _BAR)
    return [action for action in found if action is not None]


def _actions(alert: Alert, user: User, acknowledgements: Sequence[Acknowledgement], now: datetime) -> list[AlertAction]:
    """Return what the user can do, in the order of the menu. Escalation, which pages more people, is last."""
    is_active, is_mine = alert.status in ACTIVE, alert.owner_id == user.pk
    is_acknowledged = any(entry.user_id == user.pk for entry in acknowledgements)
    has_reminder = queries.has_pending_reminder(alert, user.pk)
    awaits_acceptance = is_mine and alert.status == AlertStatus.ASSIGNED and queries.awaits_acceptance(alert)
    if has_reminder:
        answer = _("Still on it")
    elif awaits_acceptance:
        answer = _("Accept")
    else:
        answer = _("Acknowledge too") if acknowledgements or alert.owner_id else _("Acknowledge")
    can_answer = is_active and (has_reminder or awaits_acceptance or not (is_mine or is_acknowledged))
    can_reopen = alert.status in (AlertStatus.CLOSED, AlertStatus.CANCELLED) and (
        alert.closed_at is not None and now - alert.closed_at < REOPEN_WINDOW
    )
    kind = CommandKind
    possible = (
        (AlertAction("resume", kind.RESUME, _("Resume"), "player-play"), alert.status == AlertStatus.ON_HOLD),
        (AlertAction("acknowledge", kind.ACKNOWLEDGE, answer, "check", key="a"), can_answer),
        (AlertAction("assign", kind.ASSIGN, _("Assign to me"), "user-check", key="t"), is_active and not is_mine),
        (
            AlertAction("reply", kind.REPLY, _("Add note"), "message-reply", _("Visible on the timeline."), asks=True),
            True,
        ),
        (AlertAction("hold", kind.HOLD, _("Snooze"), "clock-pause", _("Pauses escalation."), asks=True), is_active),
        (
            AlertAction("reassign", kind.ASSIGN, _("Reassign"), "user-plus", _("Pages the assignee."), asks=True),
            is_active,
        ),
        (
            AlertAction("unacknowledge", kind.UNACKNOWLEDGE, _("Unacknowledge"), "arrow-back-up"),
            is_active and is_acknowledged,
        ),
        (
            AlertAction("unassign", kind.UNASSIGN, _("Unassign"), "user", _("Escalation restarts.")),
            is_active and is_mine,
        ),
        (
            AlertAction(
                "merge", kind.MERGE, _("Merge into another"), "arrow-merge", _("Same problem as another alert."),
                asks=True,
            ),
            is_active,
        ),
        (AlertAction("close", kind.CLOSE, _("Close"), "circle-check", asks=True), is_active),
        (
            AlertAction(
                "cancel", kind.CANCEL, _("Close as false alarm"), "x", _("There was no problem."), asks=True
            ),
            is_active,
        ),
        (
            AlertAction("reopen", kind.REOPEN, _("Reopen"), "arrow-back-up", _("Escalation restarts."), asks=True),
            can_reopen,
        ),
        (
            AlertAction(
                "escalate", kind.ESCALATE, _("Escalate now"), "bell-ringing", _("Fires the next escalation step."),
                asks=True,
            ),
            is_active,
        ),
    )  # fmt: skip
    return [action for action, is_possible in possible if is_possible]


def _facts(alert: Alert, custom: dict[str, Any], sla_moments: queries.SlaMoments) -> list[tuple[str, str]]:
    """Return (label, value) of the ticket's fields that are not empty. Times are in the reader's zone."""
    place = ", ".join(part for part in (alert.client, alert.site) if part)
    facts = [
        (_("Status"), alert.source_status),
        # The severity in the source's own words, if known.
        (_("Priority"), custom.pop("severity", "") or alert.source_priority),
        (_("Client"), place),
        (_("Agent"), alert.source_agent),
        (_("Team"), alert.team),
        (_("Requester"), alert.requester),
    ]
    if alert.source_agent:
        # Kept only for comparisons; users read the agent's name.
        custom.pop("agent_id", None)
    if alert.long_text:
        # The description with its original HTML is already shown as the long text.
        custom.pop("details", None)
    for moment in SlaMoment.RESPOND_BY, SlaMoment.FIX_BY:
        # A date that is no moment of the SLA is Halo's "not set", or no date at all.
        if moment in sla_moments or _moment(str(custom.get(moment, ""))) is not None:
            custom[moment] = local_moment(sla_moments[moment]) if moment in sla_moments else ""
    known_fields = [(name, custom.pop(name, "")) for name in _CUSTOM_LABELS]
    fields = [*known_fields, *sorted(custom.items()), *sorted(alert.tags.items())]
    # A name of the user's own as words.
    labels = (str(_CUSTOM_LABELS.get(name) or name.replace("_", " ").capitalize()) for name, _value in fields)
    facts += zip(labels, (str(value) for _name, value in fields), strict=True)
    return [(label, value) for label, value in facts if value]


def _undo_until(alert: Alert, user: User, now: datetime) -> datetime | None:
    """Return until when the user can undo their last command, or None."""
    kinds = [str(kind) for kind in LIFECYCLE_EVENTS]
    last = AlertEvent.objects.filter(alert=alert, kind__in=kinds).order_by("-pk").first()
    if last is None or last.actor_id != user.pk or last.kind not in _CAN_BE_UNDONE:
        return None
    until = last.at + UNDO_WINDOW
    return until if until > now else None


# ---------- signed link
# The signed links in messages: an alert with one button per action, or all alerts that paged the user. No sign-in.
#
# A GET never changes anything, so link scanners are harmless. A POST acts as the user for whom the link was signed.

#: Commands available through the link. All others require signing in.
LINK_COMMANDS = (
    CommandKind.ACKNOWLEDGE,
    CommandKind.ASSIGN,
    CommandKind.ESCALATE,
    CommandKind.HOLD,
    CommandKind.REPLY,
    CommandKind.CLOSE,
    CommandKind.UNDO,
)


@login_not_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def signed_link(request: SignedInRequest, token: str) -> HttpResponse:
    """Render the alert, or run the posted command."""
    try:
        alert_id, user_id = _verify(token, request.now)
    except Rejected as rejected:
        expired = {"reason": rejected.reason.localized(), "unsaved_text": typed_text(request)}
        return render(request, "alerts/link_expired.html", expired, status=410)
    user = User.objects.filter(pk=user_id, is_active=True).first()
    if user is None:
        return render(request, "alerts/link_expired.html", {"reason": "", "may_not_act": True}, status=403)
    boundary.enter(visibility.boundary_of_user(user))
    viewer = permissions.viewer(user, None)
    if alert_id is None:
        with timezone.override(zone(user.time_zone)):
            return _all_that_paged(request, token, user, viewer)
    with database.transaction() as connection:
        number = responder_actions.resolve_merged(connection, alert_id)
    try:
        alert = require_response(viewer, find_visible_alert(number))
    except PermissionDenied:
        return render(request, "alerts/link_expired.html", {"reason": "", "may_not_act": True}, status=403)
    with timezone.override(zone(user.time_zone)):
        if request.method == "POST":
            _act(request, alert, user)
            return redirect("signed_link", token)
        context = {
            **alert_context(request, number, user, viewer, LINK_COMMANDS),
            "person": user,
            "token": token,
            "hide_nav": True,
        }
        # The link shows only people of the alert's groups, not the whole directory.
        context["assignees"] = context["assignees"][:2]
        context["merged"] = alert_id if alert_id != number else None
        return render(request, "alerts/signed_link.html", context)


def _verify(token: str, now: datetime) -> tuple[int | None, int]:
    """Returns the alert and the user of a token; no alert in the link of several. Raises Rejected."""
    try:
        return signed_links.verify(token, now)
    except Rejected as rejected:
        if rejected.code == "expired_link":
            raise
    return None, signed_links.verify(token, now, LinkSubject.PAGED)[1]


def _all_that_paged(request: SignedInRequest, token: str, user: User, viewer: Viewer) -> HttpResponse:
    """The link of a bundled message: every active alert that paged the user, and one button for all of them."""
    with database.transaction() as connection:
        numbers = responder_actions.open_for(connection, user.pk, request.now)
    alerts = [alert for alert in find_alerts(numbers) if may_respond(viewer, alert)]
    if request.method == "POST":
        _act_on_all(request, [alert for alert in alerts if str(alert.id) in request.POST.getlist("alert")], user)
        return redirect("signed_link", token)
    rows = [
        (row, signed_links.path(signed_links.sign(row.alert.pk, user.pk, request.now)))
        for row in queries.rows_of([alert.row for alert in alerts], request.now)
    ]
    context = {"rows": rows, "person": user, "hide_nav": True}
    return render(request, "alerts/signed_list.html", context)


def _act_on_all(request: SignedInRequest, alerts: Sequence[VisibleAlert], user: User) -> None:
    kind = request.POST.get("command", "")
    if kind not in (CommandKind.ACKNOWLEDGE, CommandKind.ASSIGN):
        messages.warning(request, _("Choose one of the buttons."))
        return
    command = read_command(request, CommandKind(kind), alert_actor(user), CommandChannel.EMAIL)
    outcomes = service.apply_command_to_many(alerts, command, now=request.now)
    done_count = sum(not isinstance(outcome, Rejected) for outcome in outcomes)
    messages.success(request, done_text(kind, done_count))


def _act(request: SignedInRequest, alert: VisibleAlert, user: User) -> None:
    kind = request.POST.get("command", "")
    if kind not in LINK_COMMANDS:
        messages.warning(request, _("Choose one of the buttons."))
        return
    try:
        alert_command = read_command(request, CommandKind(kind), alert_actor(user), CommandChannel.EMAIL)
        outcome = service.apply_command(alert, alert_command, now=request.now)
    except Rejected as rejected:
        messages.warning(request, rejection_text(request, rejected))
    else:
        messages.success(request, outcome.answer.localized())


@require_safe
def why_not_notified(request: SignedInRequest, number: int) -> HttpResponse:
    """Render every user of the alert's groups and policy who was not paged, with the reason."""
    alert = find_visible_alert(number)
    with database.transaction() as connection:
        people = explain.explain_for_alert(connection, alert)
    return render_view(request, "alerts/why_not_notified.html", {"alert": alert.row, "people": people})
