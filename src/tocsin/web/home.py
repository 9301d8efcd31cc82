"""The start view and the wall board: alerts, problems, who is on call and the setup checklist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from django.core.cache import caches
from django.db.models import Count, Min, Model
from django.http import HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from tocsin.access import boundary
from tocsin.access.roles import Role
from tocsin.alerts import store
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.alerts.states import ActorKind, AlertStatus, EventKind
from tocsin.alerts.store import ComparedAlert, Entry
from tocsin.core.config import environment, settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.ids import first_uuid7
from tocsin.inbound import maintenance_commands as maintenance_windows
from tocsin.inbound.models import Integration, MaintenanceWindow
from tocsin.notify.models import Delivery
from tocsin.notify.states import DeliveryStatus, Purpose
from tocsin.oncall.models import Schedule
from tocsin.operate import doctor
from tocsin.operate.checks import machine
from tocsin.operate.finding import HealthFinding
from tocsin.outbound.models import OutboundIntegration
from tocsin.people.models import Group, User
from tocsin.resources import visibility
from tocsin.web import groups
from tocsin.web.alerts import queries
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.oncall import board, swaps
from tocsin.web.ui import object_list
from tocsin.workflows.models import Workflow

# ---------- first steps

_COMPLETED = """
    SELECT
        EXISTS (SELECT FROM notify_provider WHERE is_enabled) AS provider,
        EXISTS (SELECT FROM people_contactmethod WHERE user_id = %(user)s AND is_enabled)
        AND EXISTS (SELECT FROM notify_delivery WHERE user_id = %(user)s AND status = ANY(%(arrived)s)) AS
        has_reached_user,
        EXISTS (SELECT FROM people_group) AS "group",
        EXISTS (SELECT FROM people_membership WHERE roles @> ARRAY['primary']::varchar[]) AS on_call,
        EXISTS (SELECT FROM oncall_schedule) AS schedule,
        EXISTS (SELECT FROM escalation_policy) AS policy,
        EXISTS (SELECT FROM inbound_integration) AS integration
"""


@dataclass(frozen=True, slots=True)
class FirstStep:
    """One step: its title, reason, URL and whether it is done."""

    title: Any
    reason: Any
    view: str
    is_done: bool
    #: Paging works without it, so the checklist may end without it.
    is_optional: bool = False
    #: Why the step matters now, in red: what fails without it.
    problem: str = ""
    #: The object of the view.
    number: int | None = None

    @property
    def url(self) -> str:
        return reverse(self.view, args=[] if self.number is None else [self.number])


def setup_steps(user: User) -> list[FirstStep]:
    """Return all steps in order, or none once the required ones are done."""
    is_done = _completed_steps(user)
    config = environment.current()
    address_problem = next(iter(machine.check_reach(config.base_url)), None)
    invite_reason = _("Paste their addresses, or a CSV with phones. Each verifies their own contact methods.")
    methods_reason = _("Add an email address, phone or device, and send yourself a test.")
    schedule_reason = _(
        "Who is on call when: weekly, at night or in office hours. Without a schedule, the group's order always "
        "applies."
    )
    url_reason = address_problem.remedy.localized() if address_problem else config.public_url
    url_problem = address_problem.detail.localized() if address_problem else ""
    heartbeat_reason = _("Enter its URL in Settings, so that an external service notices when this server is down.")
    has_provider = config.smtp_url is not None or is_done["provider"]
    integration = Integration.objects.order_by("pk").values_list("pk", flat=True).first()
    # In the order in which each works: invitations name the public URL, leave by a provider, and join a group.
    steps = [
        # Optional, because a trial on one machine needs no public URL.
        FirstStep(_("Set the public URL"), url_reason, "settings", not address_problem, True, url_problem),
        FirstStep(
            _("Connect a notification provider"), _("Until then, all messages stay in the sandbox."), "providers",
            has_provider,
        ),
        FirstStep(_("Add your contact methods"), methods_reason, "me", is_done["has_reached_user"]),
        FirstStep(
            _("Create an on-call group"), _("Who is paged first, and who next."),
            "groups" if is_done["group"] else "new_group", is_done["on_call"],
        ),
        FirstStep(_("Invite your team"), invite_reason, "invite_many", is_done["other_users"], is_optional=True),
        FirstStep(_("Create a schedule"), schedule_reason, "new_schedule", is_done["schedule"], is_optional=True),
        FirstStep(
            _("Create an escalation policy"), _("How long to wait before the next person is paged."),
            "policies" if is_done["policy"] else "new_policy", is_done["policy"],
        ),
        FirstStep(
            _("Add your first integration"), _("A webhook URL for HaloITSM or any other tool."),
            "integrations" if integration else "catalogue", is_done["integration"],
        ),
        FirstStep(
            _("Trigger your first alert"), _("Send a sample and acknowledge it."),
            "integration_test" if integration else "integrations", is_done["alert"], number=integration,
        ),
        FirstStep(
            _("External heartbeat (dead man's switch)"), heartbeat_reason, "settings", config.heartbeat_url is not None,
            is_optional=True,
        ),
    ]  # fmt: skip
    return steps if not all(step.is_done or step.is_optional for step in steps) else []


def _completed_steps(user: User) -> dict[str, bool]:
    """Return which steps are done. A user counts as reachable once a contact method has worked, in a
    test or for a real page."""
    arrived = [DeliveryStatus.SENT, DeliveryStatus.DELIVERED]
    with database.connection() as connection:
        completed = database.row(connection, _COMPLETED, {"user": user.pk, "arrived": arrived}) or {}
    has_others = User.objects.filter(is_active=True).exclude(pk=user.pk).exists()
    return {**completed, "other_users": has_others, "alert": Alert.objects.exists()}


# ---------- health warnings
# Current problems for Home: what the cheap health checks find, each with the view that resolves it. Reads only.

#: Coverage gaps that begin later than this are only shown with the schedule, and by `tocsin doctor`.
_AHEAD = timedelta(days=14)

#: Cache lifetime in seconds of the slower checks.
_CACHE_SECONDS = 300

#: The view that resolves a finding, by its id or the area before the dot: a URL name, and its query. The view takes the
#: object's id, unless the finding has none.
_VIEWS = {
    "alert": ("alert", ""),
    "identity": ("identity_provider", ""),
    "integration": ("integration", ""),
    "integration.old_url": ("integration_security", ""),
    "integration.refused": ("integration_security", ""),
    "mailbox.unread": ("integration_security", ""),
    "maintenance": ("maintenance_window", ""),
    "mailbox.replies_unread": ("provider", ""),
    "messages.unreadable": ("inbound_log", "?outcome=failed"),
    "messages.unsent": ("providers", ""),
    "oncall": ("group_schedule", ""),
    "oncall.calendar": ("schedule", ""),
    "outbound": ("outbound", ""),
    "outbound.dead": ("outbound_log", "?show=dead"),
    "people": ("user", ""),
    "people.no_administrator": ("users", ""),
    "provider": ("providers", ""),
    "workflow": ("workflow", ""),
    "workflow.stuck": ("workflow_log", "?show=stuck"),
}

#: The list that resolves a finding about several objects, by the view of one.
_LISTS = {"alert": "alerts"}

#: What a finding is about, by the same ids. A viewer with a boundary sees the findings about visible objects only.
_MODELS: dict[str, type[Model]] = {
    "alert": Alert,
    "integration": Integration,
    "mailbox.unread": Integration,
    "maintenance": MaintenanceWindow,
    "oncall": Group,
    "oncall.calendar": Schedule,
    "outbound": OutboundIntegration,
    "workflow": Workflow,
}


@dataclass(frozen=True, slots=True)
class HealthWarning:
    """One problem: a sentence, the URL that resolves it, and whether it is urgent."""

    text: str
    url: str
    is_urgent: bool


def find_warnings(now: datetime) -> list[HealthWarning]:
    """Return every problem, urgent ones first."""
    with database.connection() as connection:
        findings = [
            *machine.check_reach(environment.current().base_url),
            *(finding for check in doctor.CHECKS if check.is_cheap for finding in _run(check, connection, now)),
        ]
    findings = [finding for finding in findings if finding.is_problem and (finding.begins_at or now) < now + _AHEAD]
    if boundary.current() is not None:
        findings = [finding for finding in findings if _is_visible(finding)]
    warnings = [HealthWarning(finding.detail.localized(), _url(finding), finding.is_urgent) for finding in findings]
    return sorted(warnings, key=lambda warning: not warning.is_urgent)


def _run(check: doctor.HealthCheck, connection: Connection, now: datetime) -> list[HealthFinding]:
    if not check.is_cached:
        return list(check.run(connection, now))
    area = check.area.text.replace(" ", "_")
    key = f"health:{area}:{settings_store.current_version(connection)}"
    findings: list[HealthFinding] | None = caches["process"].get(key)
    if findings is None:
        findings = list(check.run(connection, now))
        caches["process"].set(key, findings, _CACHE_SECONDS)
    return findings


def _is_visible(finding: HealthFinding) -> bool:
    model = _of(finding, _MODELS)
    return model is not None and visibility.visible(model).filter(pk=finding.object_id).exists()


def _of[T](finding: HealthFinding, by_id: Mapping[str, T]) -> T | None:
    """Return the entry of the finding's id, or of the area before the dot."""
    return by_id.get(finding.id) or by_id.get(finding.id.partition(".")[0])


def _url(finding: HealthFinding) -> str:
    name, query = _of(finding, _VIEWS) or ("system", "")
    if finding.is_about_several:
        return reverse(_LISTS[name]) + query
    return reverse(name, args=[] if finding.object_id is None else [finding.object_id]) + query


# ---------- overview

#: Events that count as an answer to a page.
_RESPONSE_KINDS = [
    EventKind.ACKNOWLEDGED, EventKind.ASSIGNED, EventKind.PUT_ON_HOLD, EventKind.CLOSED, EventKind.CANCELLED,
    EventKind.MERGED,
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class NightSummary:
    """Summary of one night: the hours of the setting `night_hours`, in the user's time zone."""

    pages: int
    #: The alerts that the pages were about.
    alerts: int
    #: Names of the users who were paged.
    people: Sequence[str]
    #: The longest time from opening to first answer; None if no alert was answered.
    slowest_response: timedelta | None
    #: Alerts that paged somebody and were neither answered by a user nor ended by the source.
    unanswered: int
    #: Whether the night is not over yet.
    is_ongoing: bool
    #: Pages sent to the user.
    own_pages: int


def alerts_of(user: User, limit: int) -> list[ComparedAlert]:
    """Return the newest active alerts that the user is assigned to or acknowledged."""
    # Two short statements: a single query with OR would scan all open alerts.
    assigned = Alert.objects.filter(status__in=[AlertStatus.ASSIGNED, AlertStatus.ON_HOLD], owner=user)
    acknowledged = Alert.objects.filter(status=AlertStatus.OPEN, acknowledgements__user=user)
    newest = (rows.order_by("-pk").values_list("pk", flat=True)[:limit] for rows in (assigned, acknowledged))
    numbers = list(chain.from_iterable(newest))
    return store.load_comparable(Alert.objects.filter(pk__in=numbers), limit)


def last_night(viewer: User, now: datetime) -> NightSummary:
    """Return the user's last night; until it ends the current one."""
    start, end = settings_store.night_hours().last_night(timezone.localtime(now))
    sent = Delivery.objects.filter(
        pk__gte=first_uuid7(start), pk__lt=first_uuid7(end), purpose=Purpose.PAGE,
        status__in=[DeliveryStatus.SENT, DeliveryStatus.DELIVERED],
    )  # fmt: skip
    counts = dict(sent.values_list("user").annotate(number=Count("pk")).order_by())
    if not counts:
        return NightSummary(0, 0, people=[], slowest_response=None, unanswered=0, is_ongoing=now < end, own_pages=0)
    people = [
        user.display_name for user in User.mentioned.filter(pk__in=[key for key in counts if key]).order_by("name")
    ]
    alerts = set(sent.exclude(alert=None).values_list("alert", flat=True))
    events = AlertEvent.objects.filter(alert__in=alerts, kind__in=_RESPONSE_KINDS)
    user_events = events.filter(actor_kind=ActorKind.USER)
    first_responses = user_events.values_list("alert", "alert__opened_at").annotate(first=Min("at")).order_by()
    return NightSummary(
        pages=sum(counts.values()),
        alerts=len(alerts),
        people=people,
        slowest_response=max((first - opened for _alert, opened, first in first_responses), default=None),
        unanswered=len(alerts) - events.values("alert").distinct().count(),
        is_ongoing=now < end,
        own_pages=counts.get(viewer.pk, 0),
    )


MAX_ROWS = 8


@require_safe
def home(request: SignedInRequest) -> HttpResponse:
    own: list[Entry] = [(alert, None) for alert in alerts_of(request.user, MAX_ROWS)]
    newest = queries.newest_needing_answer()
    rows = queries.rows_of_entries([*own, *queries.most_urgent(newest, MAX_ROWS)], request.now)
    steps = setup_steps(request.user) if request.user.role == Role.ADMIN else []
    outcomes = object_list.outcomes(request.now)
    on_call_soon = board.on_call_soon(request.now)
    not_ready = [row for row in on_call_soon if not row.first.is_ready]
    context = {
        "my_alerts": rows[: len(own)],
        "open_rows": rows[len(own) :],
        # Of the shell, which would count again.
        "open_count": len(newest),
        "groups": groups.duties_on_call_now(request.now),
        "not_ready": not_ready[:MAX_ROWS],
        "not_ready_count": len(not_ready),
        "ready_count": len(on_call_soon) - len(not_ready),
        "on_call_count": len(on_call_soon),
        "pending_methods": request.user.contact_methods.filter(awaits_code=True),
        "outcomes": outcomes,
        "outcomes_are_cut": object_list.is_cut(outcomes),
        "swap_requests": swaps.requests_received(request.user, request.now),
        "night": last_night(request.user, request.now),
        "active_windows": maintenance_windows.active_windows(request.now),
        "health_warnings": find_warnings(request.now) if request.user.role in (Role.ADMIN, Role.MANAGER) else [],
        "sees_health": request.user.role in (Role.ADMIN, Role.MANAGER),
        "steps": steps,
        "step_count": len(steps),
        "steps_done": sum(step.is_done for step in steps),
        # What paging needs: a set-up that is not done is a problem like any other.
        "steps_missing": [step for step in steps if not (step.is_done or step.is_optional)],
    }
    return render_view(
        request, "home/home.html", context, partials=("alerts", "incoming", "health", "oncall", "readiness")
    )


#: Number of rows that fit such a screen.
WALL_MAX_ROWS = 12


@require_safe
def wall(request: SignedInRequest) -> HttpResponse:
    """Render the unanswered alerts first, most urgent on top, then acknowledged and assigned ones."""
    entries = queries.most_urgent(queries.newest_needing_answer(), WALL_MAX_ROWS)
    for tab in ("acknowledged", "assigned"):
        if free := WALL_MAX_ROWS - len(entries):
            entries += store.first_entries(queries.alerts_in_tab(tab), free)[0]
    counts = queries.active_counts()
    context = {
        "tabs": [
            replace(tab, count=counts.needing_answer) if tab.key == "open" else tab
            for tab in queries.tabs("", counts)
            if tab.count is not None
        ],
        "rows": queries.rows_of_entries(entries, request.now),
        "groups": groups.duties_on_call_now(request.now),
    }
    return render_view(request, "wall/wall.html", context, partials=("board", "oncall", "paused"))
