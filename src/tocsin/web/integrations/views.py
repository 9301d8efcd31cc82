"""Inbound integrations: the list, the catalogue, adding one, its overview, and the payloads to try on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import Q
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access.roles import Permission, Role
from tocsin.alerts.models import Alert
from tocsin.catalogue.kinds import Category, IntegrationKind, Sample, load_kinds
from tocsin.core.config import environment
from tocsin.core.config.settings_store import make_etag
from tocsin.core.errors import Rejected
from tocsin.core.ids import first_uuid7
from tocsin.core.reasons import NO_REASON, Reason, local_duration, local_term
from tocsin.escalation.models import Policy
from tocsin.inbound import heartbeats
from tocsin.inbound import maintenance_commands as maintenance_windows
from tocsin.inbound.admin import commands, delayed_alerts, secrets, simple_rules
from tocsin.inbound.admin.simple_rules import PresetKind, RoutingPreset, StatusEffect
from tocsin.inbound.enums import HeartbeatHealth as Beat
from tocsin.inbound.enums import IntegrationMode, MessageStatus
from tocsin.inbound.models import NOT_UNDERSTOOD_CODE, DelayedAlert, InboundMessage, Integration, MaintenanceWindow
from tocsin.notify.providers.pool import CHANNELS
from tocsin.operate.checks import machine
from tocsin.operate.finding import HealthFinding
from tocsin.outbound.connectors.tickets import statuses_by_effect
from tocsin.people.models import Group
from tocsin.resources.registry import INTEGRATIONS
from tocsin.simulate import backtest
from tocsin.simulate.backtest import Backtest, BacktestTotals
from tocsin.simulate.backtest import backtest as backtest_backtest
from tocsin.simulate.chain import SimulatedOutcome, simulate_integration
from tocsin.simulate.escalation import SimulatedPage
from tocsin.web.http.request import (
    PARTIAL_HEADER,
    SignedInRequest,
    actor,
    find_object,
    may,
    offer_own_groups,
    render_view,
    require,
    requires,
)
from tocsin.web.inbound import readable
from tocsin.web.integrations.forms import AddIntegrationForm, places_of
from tocsin.web.ui import formatting, object_list
from tocsin.web.ui.forms import rejections_shown, show_rejection
from tocsin.web.ui.object_list import DAY, MAX_COUNTED_MESSAGES, ObjectList, counted

# ---------- payloads
# Selects the payload to try: a logged message, a sample of the integration type, or a pasted one. Reads only.

PASTED = "pasted"
_LOG, _SAMPLE = "log:", "sample:"

#: Number of newest messages offered.
_MAX_LISTED = 25


@dataclass(frozen=True, slots=True)
class SamplePayload:
    """A payload with its form key, label and bytes."""

    key: str
    label: str
    body: bytes
    content_type: str = ""
    received_at: datetime | None = None

    @property
    def text(self) -> str:
        return readable(self.body)


#: No payload.
NO_PAYLOAD = SamplePayload(PASTED, "", b"")


def groups(integration: Integration, kind: IntegrationKind) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return (heading, [(key, label)]) of the available payloads."""
    messages = [(f"{_LOG}{item.pk}", _message_label(item)) for item in _latest(integration)[:_MAX_LISTED]]
    samples = [(f"{_SAMPLE}{item.name}", _(item.title)) for item in kind.samples]
    option_groups = [
        ("", [(PASTED, _("Paste your own below"))]),
        (_("From the log"), messages),
        (_("Samples"), samples),
    ]
    return [(heading, options) for heading, options in option_groups if options]


def choices(integration: Integration, kind: IntegrationKind) -> list[tuple[str, Any]]:
    pasted, *other_groups = groups(integration, kind)
    return [*pasted[1], *other_groups]


def find_payload(integration: Integration, kind: IntegrationKind, key: str, pasted: str) -> SamplePayload:
    """Return the payload of a form key. An unknown key gives the pasted text."""
    if key.startswith(_LOG) and (message := _message(integration, key.removeprefix(_LOG))) is not None:
        return payload_of_message(message)
    for sample in kind.samples:
        if key == f"{_SAMPLE}{sample.name}":
            return payload_of_sample(sample)
    return SamplePayload(PASTED, _("pasted"), pasted.encode("utf-8", "surrogatepass"))


def message_payload_or_default(integration: Integration, kind: IntegrationKind, message_id: str) -> SamplePayload:
    """Return the message with that id, else the newest message that opened an alert, else the newest readable one, else
    the type's default sample."""
    message = _message(integration, message_id)
    if message is None:
        recent = list(_latest(integration)[:_MAX_LISTED])
        opened = (candidate for candidate in recent if candidate.status == MessageStatus.OPENED)
        readable_ones = (candidate for candidate in recent if candidate.status != MessageStatus.FAILED)
        message = next(opened, None) or next(readable_ones, None)
    if message is not None:
        return payload_of_message(message)
    sample = default_sample(kind)
    return payload_of_sample(sample) if sample is not None else SamplePayload(PASTED, _("pasted"), b"")


def payload_of_message(message: InboundMessage) -> SamplePayload:
    time_text = timezone.localtime(message.received_at).strftime("%H:%M:%S")
    label = _("%(time)s, from the log") % {"time": time_text}
    return SamplePayload(f"{_LOG}{message.pk}", label, bytes(message.raw), message.content_type, message.received_at)


def payload_of_sample(sample: Sample) -> SamplePayload:
    return SamplePayload(f"{_SAMPLE}{sample.name}", _("sample: %(title)s") % {"title": _(sample.title)}, sample.body,
                   sample.content_type)  # fmt: skip


def default_sample(kind: IntegrationKind) -> Sample | None:
    """Return the type's designated default sample, else the simplest one that opens an alert by itself."""
    if kind.first_sample:
        return next((candidate for candidate in kind.samples if candidate.name == kind.first_sample), None)
    opening = [
        candidate
        for candidate in kind.samples
        if not candidate.before and candidate.expect[0].status == MessageStatus.OPENED
    ]
    plain = sorted(opening, key=lambda candidate: (len(candidate.expect), len(candidate.name)))
    return plain[0] if plain else next(iter(kind.samples), None)


def _latest(integration: Integration) -> Any:
    rows = InboundMessage.objects.filter(integration=integration, replay_of=None)
    return rows.defer("headers", "verdict").order_by("-pk")


def _message(integration: Integration, text: str) -> InboundMessage | None:
    try:
        message_id = UUID(text)
    except ValueError:
        return None
    return InboundMessage.objects.filter(integration=integration, pk=message_id).first()


def _message_label(message: InboundMessage) -> str:
    at = timezone.localtime(message.received_at)
    time_text = f"{date_format(at, pgettext('date format', 'j M'))} {at:%H:%M:%S}"
    subject = message.subject or (_("(unreadable)") if message.status == MessageStatus.FAILED else "")
    return " ".join(part for part in (time_text, message.source_status, subject[:60]) if part)


# ---------- simulation view
# Prepares a simulated outcome for display: the result, and who would be paged minute by minute. Pure.

#: Maximum number of paging times shown; the API returns all of them.
MAX_MOMENTS = 12


@dataclass(slots=True)
class SimulatedPaging:
    """The users paged at one time, each with the channels."""

    delay: timedelta
    people: dict[str, list[str]] = field(default_factory=dict)

    @property
    def delay_text(self) -> str:
        return f"+{local_duration(self.delay)}" if self.delay else _("immediately")


@dataclass(frozen=True, slots=True)
class OutcomeView:
    """One message's outcome with its wording and colour."""

    outcome: SimulatedOutcome
    verb: str
    tone: str
    pagings: tuple[SimulatedPaging, ...]
    has_more: bool
    #: Sentences about recipients that could not be reached.
    problems: tuple[Reason, ...]


def outcome_views(outcomes: Iterable[SimulatedOutcome]) -> list[OutcomeView]:
    views = []
    for outcome in outcomes:
        moments = pages_by_delay(outcome.pages)
        problems = tuple(dict.fromkeys(page.problem for page in outcome.pages if page.problem))
        has_more = len(moments) > MAX_MOMENTS
        views.append(OutcomeView(outcome, *_verb(outcome.status), tuple(moments[:MAX_MOMENTS]), has_more, problems))
    return views


def would_page(outcome: SimulatedOutcome) -> str:
    """Return who would be paged first, such as "Alice Andersson, at once"; "" for nobody."""
    moments = pages_by_delay(outcome.pages)
    if not moments:
        return ""
    names = list(moments[0].people)
    names_text = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {_('and')} {names[-1]}"
    return f"{names_text}, {moments[0].delay_text if moments[0].delay else _('now')}"


def pages_by_delay(pages: Iterable[SimulatedPage]) -> list[SimulatedPaging]:
    """Group simulated pages by time."""
    by_delay: dict[timedelta, SimulatedPaging] = {}
    for page in pages:
        if not page.problem:
            channels = by_delay.setdefault(page.after, SimulatedPaging(page.after)).people.setdefault(page.name, [])
            channel = local_term(CHANNELS[page.channel].nouns[0]) if page.channel in CHANNELS else page.channel
            if channel not in channels:
                channels.append(channel)
    return list(by_delay.values())


def _verb(status: MessageStatus) -> tuple[str, str]:
    match status:
        case MessageStatus.OPENED:
            return _("Opens an alert"), "now"
        case MessageStatus.APPENDED:
            return _("Adds to its alert"), ""
        case MessageStatus.UPDATED:
            return _("Updates its alert"), ""
        case MessageStatus.CLOSED:
            return _("Closes its alert"), "ok"
        case MessageStatus.FAILED:
            return _("Fails"), "now"
        case MessageStatus.IGNORED:
            return _("Ignored"), "quiet"
        case MessageStatus.PENDING | MessageStatus.DELAYED:
            return _("Delayed"), "wait"


# ---------- overview

#: Maximum number of delayed alerts shown.
_MAX_DELAYED_ALERTS = 20


@dataclass(frozen=True, slots=True)
class IntegrationHealth:
    """An integration's health in a few words, with its colour."""

    text: str
    tone: str


def kind_of(integration: Integration) -> IntegrationKind | None:
    """Return the integration's type, or None if this version does not know it."""
    return load_kinds().get(integration.kind)


def integration_health(
    integration: Integration,
    today: tuple[int, datetime] | None,
    has_messages: bool,
    beat: heartbeats.HeartbeatStatus | None = None,
) -> IntegrationHealth:
    """Return the integration's health badge; for a heartbeat integration, the heartbeat's state."""
    if integration.mode == IntegrationMode.DISABLED:
        return IntegrationHealth(_("disabled"), "quiet")
    if beat is not None:
        badges = {
            Beat.LATE: (_("overdue"), "now"), Beat.FAILED: (_("failed"), "now"), Beat.UP: (_("up"), "ok"),
            Beat.RUNNING: (_("job running"), "ok"), Beat.NEW: (_("waiting for the first ping"), "wait"),
        }  # fmt: skip
        return IntegrationHealth(*badges[beat.health])
    if today is None:
        return IntegrationHealth(_("no messages today") if has_messages else _("waiting for the first message"), "wait")
    text = _("receiving, %(count)s today") % {"count": counted(today[0], MAX_COUNTED_MESSAGES)}
    if integration.mode == IntegrationMode.PAGE:
        return IntegrationHealth(text, "ok")
    return IntegrationHealth(f"{text}, {_('dry run')}", "wait")


def would_page_views(integration: Integration, message: InboundMessage) -> str:
    """Return whom the message would page first, evaluated at its arrival: "Alice Andersson, now"; "" for nobody."""
    try:
        compiled = commands.compile_stored(integration)
    except Rejected:
        return ""
    simulation = simulate_integration(compiled, bytes(message.raw), message.content_type, message.received_at, limit=1)
    return would_page(simulation.outcomes[0]) if simulation.outcomes else ""


def describe_preset(integration: Integration) -> str:
    """Summarize the "Which tickets page?" setting in a few words."""
    version = integration.current_version
    routes = version.definition.get("routes") if version else None
    preset = simple_rules.preset_of(commands.describe_version(version).get("routes") if version and routes else None)
    match preset:
        case RoutingPreset(kind=PresetKind.URGENT):
            return _("critical and high")
        case RoutingPreset(kind=PresetKind.OUTSIDE_SUPPORT_HOURS):
            return _("outside %(hours)s") % {"hours": preset.hours}
        case RoutingPreset(kind=PresetKind.SELECTED):
            return ", ".join((*preset.types, *preset.clients))
        case RoutingPreset(kind=PresetKind.ALL) if not routes:
            return _("none")
        case _:
            return _("custom routes")


def dry_run_totals(integration: Integration, now: datetime) -> BacktestTotals | None:
    """Return how often a dry-run integration would have paged in the last seven days; None for other modes."""
    if integration.mode != IntegrationMode.DRY_RUN:
        return None
    rows = Alert.objects.filter(integration=integration.pk, dry_run=True, is_test=False, opened_at__gte=now - 7 * DAY)
    is_night, totals = backtest.night_of(integration), BacktestTotals()
    for opened_at in rows.values_list("opened_at", flat=True):
        totals.pages += 1
        totals.at_night += is_night(opened_at)
    return totals


def suppressed_count(integration: Integration, now: datetime) -> dict[str, Any]:
    """Return the integration's delayed alerts and the active maintenance windows that may affect it."""
    rows = DelayedAlert.objects.filter(integration=integration)
    delayed = delayed_alerts.list_delayed(rows, _MAX_DELAYED_ALERTS)
    windows = MaintenanceWindow.objects.filter(Q(integrations=[]) | Q(integrations__contains=[integration.pk]))
    return {
        "waiting": delayed,
        "waiting_count": len(delayed) if len(delayed) < _MAX_DELAYED_ALERTS else rows.count(),
        "active_windows": maintenance_windows.active_windows(now, windows),
    }


def count_not_understood(integration: Integration, now: datetime) -> int:
    """Return how many messages of the last seven days say too little to know what they want."""
    since = first_uuid7(now - 7 * DAY)
    return InboundMessage.objects.filter(
        integration=integration, reason__code=NOT_UNDERSTOOD_CODE, test=False, pk__gte=since
    ).count()


def problem_of(integration: Integration) -> Reason:
    """Return why the configuration is unusable, or `NO_REASON`."""
    try:
        compiled = commands.compile_stored(integration)
    except Rejected:
        return NO_REASON
    return compiled.problem.reason if compiled.problem is not None else NO_REASON


# ---------- save review
# The review before a save that changes who is paged: what would have been different for the last messages.
#
# The first save shows it and saves nothing. A second one with the same change saves.

#: Name of the hidden field that contains the stamp of the change that was shown.
FIELD = "reviewed"

#: Number of newest messages that the review compares.
REVIEWED_MESSAGES = 200


@dataclass(frozen=True, slots=True)
class SaveReview:
    """The effect on the last messages, and the stamp that confirms it."""

    backtest: Backtest
    stamp: str


def review_change(request: SignedInRequest, row: Integration, parts: Mapping[str, Any]) -> SaveReview | None:
    """Return the effect of changed `parts` of the definition, unless the user has confirmed it.

    None as well if the last messages would have paged the same users, the integration pages nobody, or its current
    version is unusable. Raises Rejected for parts that cannot be saved.
    """
    stamp = make_etag(parts)
    if row.mode != IntegrationMode.PAGE or request.POST.get(FIELD) == stamp:
        return None
    result = backtest_backtest(row, parts, limit=REVIEWED_MESSAGES)
    return SaveReview(result, stamp) if result.effects and not result.problem else None


def saved_message(request: SignedInRequest) -> str:
    """Return what is said once a change is saved, with or without a review."""
    if FIELD in request.POST:
        return _("Saved. Applies to new messages.")
    return _("Saved. There was nothing to review. Applies to new messages.")


def render_review(request: SignedInRequest, review: SaveReview, frame: Mapping[str, Any], back: str) -> HttpResponse:
    """Render the review of a change by a button: a form that posts the same again. `back` is the name of a URL."""
    fields = [(name, value) for name, value in request.POST.items() if name not in (FIELD, "csrfmiddlewaretoken")]
    context = {**frame, "review": review, "posted": fields, "back": back}
    return render_view(request, "integrations/confirm.html", context)


#: Integration types shown first in the catalogue; the others follow by title.
_FEATURED_KINDS = ("haloitsm", "api")

#: Placeholder in a guide for users who may not see the webhook URL.
HIDDEN_URL = "https://…/in/…"


_LIST = ObjectList(
    INTEGRATIONS,
    rows_template="integrations/rows.html",
    empty_title=gettext_lazy("No integrations yet"),
    empty_text=gettext_lazy(
        "An integration gives a tool such as HaloITSM a webhook URL. Its rules decide which messages become alerts."
    ),
    icon="webhook",
    add_view="catalogue",
    add_label=gettext_lazy("Add an integration"),
    template="integrations/list.html",
    live="messages config",
)


@require_safe
def integration_list(request: SignedInRequest) -> HttpResponse:
    """Render every integration with its health."""
    rows = Integration.objects.select_related("policy", "group")
    return _LIST.render(request, _LIST.matching(request, rows), lambda page: _with_health(page, request.now))


def _with_health(rows: Sequence[Integration], now: datetime) -> Iterator[tuple[Any, ...]]:
    today = object_list.messages_today(now, [row.pk for row in rows])
    active_before = object_list.integrations_with_messages([row.pk for row in rows if row.pk not in today])
    beats = heartbeats.heartbeat_statuses([row for row in rows if row.kind == heartbeats.KIND])
    for row in rows:
        health = integration_health(row, today.get(row.pk), row.pk in active_before, beats.get(row.pk))
        yield row, kind_of(row), health, today.get(row.pk)


@require_safe
@requires(Permission.MANAGE_ROUTING)
def catalogue(request: SignedInRequest) -> HttpResponse:
    """Render the integration types by category, with search."""
    text = request.GET.get("q", "").strip()[:100]
    selected_category = request.GET.get("category", "")
    kinds_by_name = load_kinds()
    # The most common types come first for users who do not search.
    order = [
        *(kinds_by_name[name] for name in _FEATURED_KINDS),
        *(kind for name, kind in kinds_by_name.items() if name not in _FEATURED_KINDS),
    ]
    kinds = [kind for kind in order if _matches(kind, text, selected_category)]
    categories = [(category, str(category) == selected_category) for category in Category]
    context = {"kinds": kinds, "text": text, "categories": categories, "chosen": selected_category}
    return render_view(request, "integrations/catalogue.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.MANAGE_ROUTING)
def add(request: SignedInRequest, kind_name: str) -> HttpResponse:
    """Show the integration type's description and the form for a new integration."""
    kind = load_kinds().get(kind_name)
    if kind is None:
        raise Http404(_("Unknown integration type “%(name)s”.") % {"name": kind_name})
    form = AddIntegrationForm(request.POST or None, kind=kind, initial=_initial(request, kind))
    if request.user.role == Role.ADMIN:
        # Administrators can set the group later, in the settings; the form contains only required fields.
        del form.fields["group"]
    else:
        offer_own_groups(request, form.fields["group"])
    if request.method == "POST" and form.is_valid():
        require(request, Permission.MANAGE_ROUTING, form.cleaned_data.get("group"))
        try:
            saved = commands.save_integration(form.spec(), actor=actor(request), now=request.now)
        except Rejected as rejected:
            if rejected.code == "shared_source":
                form.show_source()
            show_rejection(form, rejected, places_of(kind))
        else:
            return redirect("integration", saved.pk)
    return render_view(
        request, "integrations/add.html", {"form": form, "kind": kind}, status=422 if form.errors else 200
    )


@require_safe
def integration(request: SignedInRequest, number: int) -> HttpResponse:
    """Render the overview: the webhook URL until the first message, then health, observed statuses and the latest
    messages."""
    row, kind = find(number)
    latest = list(
        InboundMessage.objects.filter(integration=row).defer("raw", "headers", "verdict").order_by("-pk")[:10]
    )
    today = object_list.messages_today(request.now, [row.pk]).get(row.pk)
    may_see = may(request, Permission.MANAGE_ROUTING, row.group_id)
    url = secrets.masked_url(row) if may_see else ""
    beat = heartbeats.heartbeat_statuses([row])[row.pk] if row.kind == heartbeats.KIND else None
    by_effect = statuses_by_effect(row)
    context = {
        **frame(request, row, kind, "overview"),
        "url": url,
        "is_url_unreadable": may_see and not url,
        "guide": formatting.kind_guide(kind, url or HIDDEN_URL, row.settings) if kind and not latest else "",
        "latest": latest,
        "health": integration_health(row, today, bool(latest), beat),
        "outcomes": object_list.outcomes(request.now, row.pk),
        "observed": simple_rules.load_observed_statuses(row, request.now) if latest else None,
        "effects": [(does, label) for does, label in _STATUS_EFFECTS],
        "in_halo": [(effect, label, by_effect[effect]) for effect, label in _STATUS_EFFECTS] if by_effect else [],
        "would_page": would_page_views(row, latest[0])
        if latest and request.headers.get(PARTIAL_HEADER) == "first"
        else "",
        "paging_preset": describe_preset(row),
        "beat": beat,
        "dry_run_totals": dry_run_totals(row, request.now),
        "unusable": problem_of(row),
        "not_understood": count_not_understood(row, request.now),
        "without_alert": simple_rules.count_without_alert(row, request.now) if latest else 0,
        **suppressed_count(row, request.now),
        "may_try": may(request, Permission.TEST_INTEGRATIONS, row.group_id),
    }
    return render_view(request, "integrations/overview.html", context, partials=("first", "received", "health"))


_STATUS_EFFECTS = (
    (StatusEffect.OPEN, gettext_lazy("opens")),
    (StatusEffect.UPDATE, gettext_lazy("updates")),
    (StatusEffect.CLOSE, gettext_lazy("closes")),
)


@require_POST
@requires(Permission.MANAGE_ROUTING)
def set_status(request: SignedInRequest, number: int) -> HttpResponse:
    """Change the effect of one observed status."""
    row, kind = find(number)
    require(request, Permission.MANAGE_ROUTING, row.group_id)
    status = request.POST.get("status", "")
    try:
        effect = StatusEffect(request.POST.get("does", ""))
    except ValueError:
        raise Http404(_("A status can open, update or close an alert.")) from None
    with rejections_shown(request):
        rules = simple_rules.rules_with_status(row, status, effect)
        if (review := review_change(request, row, {"rules": rules})) is not None:
            return render_review(request, review, frame(request, row, kind, "overview"), "integration")
        simple_rules.set_status(row, status, effect, actor=actor(request), now=request.now)
        effect_labels = dict(_STATUS_EFFECTS)
        messages.success(
            request, _("Status “%(status)s” now %(does)s alerts.") % {"status": status, "does": effect_labels[effect]}
        )
    return redirect("integration", number)


def find(number: int) -> tuple[Integration, IntegrationKind | None]:
    """Return the integration and its type. Raises Http404."""
    row = find_object(INTEGRATIONS, number)
    return row, kind_of(row)


def frame(request: SignedInRequest, row: Integration, kind: IntegrationKind | None, tab: str) -> dict[str, Any]:
    """Return the context that every tab of an integration needs."""
    return {
        "integration": row,
        "kind": kind,
        "tab": tab,
        # Called by the templates that show the webhook URL.
        "address_findings": lambda: _address_findings(row),
        "may_change": may(request, Permission.MANAGE_ROUTING, row.group_id),
        # Where the integration pages, a change of who is paged is reviewed first.
        "save_label": _("Review changes") if row.mode == IntegrationMode.PAGE else _("Save"),
        "may_try": may(request, Permission.TEST_INTEGRATIONS, row.group_id),
    }


def _address_findings(row: Integration) -> list[HealthFinding]:
    """Return why senders may not reach the webhook URL. The first message shows that they do."""
    if InboundMessage.objects.filter(integration=row).exists():
        return []
    return list(machine.check_reach(environment.current().base_url))


def _matches(kind: IntegrationKind, text: str, category: str) -> bool:
    texts = (kind.title, kind.description, local_term(kind.title), local_term(kind.description), kind.name)
    searchable = " ".join(texts).casefold()
    return category in ("", str(kind.category)) and all(word in searchable for word in text.casefold().split())


def _initial(request: SignedInRequest, kind: IntegrationKind) -> dict[str, Any]:
    policy = Policy.objects.first()
    used_names = {name.casefold() for name in Integration.objects.values_list("name", flat=True)}
    name, number = kind.title, 2
    while name.casefold() in used_names:
        name, number = f"{kind.title} {number}", number + 1
    # Without a policy, the user who adds the first integration is paged. If there is exactly one group, a policy's
    # roles can only be resolved in that group, so it is preselected.
    groups = list(Group.objects.values_list("pk", flat=True)[:2]) if policy else []
    users = [] if policy else [request.user.pk]
    return {"name": name, "policy": policy, "groups": groups if len(groups) == 1 else [], "users": users}
