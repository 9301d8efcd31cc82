"""An integration's tabs: Settings, Security, Guide, Versions, Test, and "Which tickets page?"."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access.roles import Permission
from tocsin.core.config import environment
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.validation import inputs
from tocsin.inbound import email
from tocsin.inbound.admin import commands, delayed_alerts, secrets, simple_rules, specs
from tocsin.inbound.admin import sample as samples
from tocsin.inbound.admin.commands import DefinitionChange, compile_stored
from tocsin.inbound.admin.simple_rules import PresetKind, RoutingPreset
from tocsin.inbound.config.compiled_integration import ReferenceNames
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.models import Integration, IntegrationVersion
from tocsin.inbound.storage.messages import MAX_SECONDS, MessageBudget
from tocsin.outbound.halo_sync import halo_commands
from tocsin.resources.registry import INTEGRATIONS
from tocsin.simulate import backtest
from tocsin.simulate.backtest import BacktestTotals
from tocsin.simulate.chain import simulate_integration
from tocsin.web.http.request import (
    PARTIAL_HEADER,
    SignedInRequest,
    actor,
    number_of,
    offer_own_groups,
    render_view,
    require,
    requires,
)
from tocsin.web.integrations import condition_form, views
from tocsin.web.integrations.forms import (
    CredentialsForm,
    IntegrationSettingsForm,
    IntegrationTestForm,
    RotateUrlForm,
    initial_of,
    places_of,
)
from tocsin.web.integrations.views import HIDDEN_URL, find, frame, render_review, review_change, saved_message
from tocsin.web.ui import formatting
from tocsin.web.ui.confirm_delete import FormSnapshot
from tocsin.web.ui.forms import rejections_shown

#: The part of the integration that the Security tab changes.
CREDENTIALS = "credentials"


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.MANAGE_ROUTING)
def settings(request: SignedInRequest, number: int) -> HttpResponse:
    """Edit name, mode, recipients and the integration type's settings."""
    row, kind = find(number)
    require(request, Permission.MANAGE_ROUTING, row.group_id)
    if kind is None:
        return render_view(request, "integrations/unknown.html", frame(request, row, kind, "settings"))
    form = IntegrationSettingsForm(request.POST or None, kind=kind, initial=initial_of(row, kind))
    offer_own_groups(request, form.fields["group"])
    snapshot = FormSnapshot.of(request, INTEGRATIONS, row, keys=form.KEYS)
    if request.method == "POST" and form.is_valid():
        with rejections_shown(form, places_of(kind)), snapshot.unchanged():
            spec = form.change(commands.integration_spec(row))
            commands.save_integration(spec, existing=row, actor=actor(request), now=request.now)
            messages.success(request, _("Saved."))
            return redirect("integration_settings", number)
    context = {**frame(request, row, kind, "settings"), "form": form, "snapshot": snapshot}
    return render_view(request, "integrations/settings.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.MANAGE_ROUTING)
def security(request: SignedInRequest, number: int) -> HttpResponse:
    """Show and rotate the webhook URL; edit the credentials required from senders."""
    row, kind = find(number)
    require(request, Permission.MANAGE_ROUTING, row.group_id)
    form_name = request.POST.get("form")
    rotate = RotateUrlForm(request.POST if form_name == "rotate" else None)
    stored_credentials = secrets.masked_credentials(secrets.readable_credentials(row))
    initial_values = {"addresses": "\n".join(stored_credentials.pop("addresses", ()))} | {
        f"{kind_of}_{part}": value for kind_of, parts in stored_credentials.items() for part, value in parts.items()
    }
    credentials = CredentialsForm(
        row.kind, request.POST if form_name == "credentials" else None, initial=initial_values
    )
    snapshot = FormSnapshot.of(request, INTEGRATIONS, row, keys=(CREDENTIALS,))
    done = (form_name == "rotate" and _rotate(request, row, rotate)) or (
        form_name == "credentials" and _save_credentials(request, row, credentials, snapshot)
    )
    if done:
        return redirect("integration_security", number)
    context = {
        **frame(request, row, kind, "security"),
        "url": secrets.masked_url(row),
        "is_locked": bool(row.credentials) and not stored_credentials and not initial_values.get("addresses"),
        "rotate": rotate,
        "credentials": credentials,
        "snapshot": snapshot,
        "has_mailbox": bool(initial_values.get("imap_mailbox")),
        "previous_url_works": row.old_token_until is not None and row.old_token_until > request.now,
    }
    failed = rotate.errors or credentials.errors
    return render_view(request, "integrations/security.html", context, status=422 if failed else 200)


@require_safe
def guide(request: SignedInRequest, number: int) -> HttpResponse:
    """Show how to set up the sender, with the integration's own webhook URL filled in."""
    row, kind = find(number)
    context = frame(request, row, kind, "guide")
    url = secrets.masked_url(row) if context["may_change"] else ""
    text = formatting.kind_guide(kind, url or HIDDEN_URL, row.settings) if kind else ""
    return render_view(request, "integrations/guide.html", {**context, "guide": text, "url": url})


def _rotate(request: SignedInRequest, row: Any, form: RotateUrlForm) -> bool:
    if not form.is_valid():
        return False
    with rejections_shown(form):
        overlap = inputs.parse_duration(form.cleaned_data["overlap"], "overlap")
        secrets.rotate_token(row, overlap=overlap, actor=actor(request), now=request.now)
        if halo_commands.schedule_webhook_update(row, request.now):
            messages.success(request, _("URL rotated. The webhook in Halo is updated within a minute."))
        else:
            messages.success(request, _("URL rotated. Update the sender before the previous URL expires."))
        return True
    return False


def _save_credentials(request: SignedInRequest, row: Any, form: CredentialsForm, snapshot: FormSnapshot) -> bool:
    if not form.is_valid():
        return False
    with rejections_shown(form, form.places()), snapshot.unchanged():
        spec = {**commands.integration_spec(row), CREDENTIALS: form.spec()}
        commands.save_integration(spec, existing=row, actor=actor(request), now=request.now)
        messages.success(request, _("Saved. Applies to all new requests."))
        return True
    return False


# ---------- delayed


@require_POST
@requires(Permission.TEST_INTEGRATIONS)
def act(request: SignedInRequest, key: str, verb: str) -> HttpResponse:
    """Run the action and redirect to the integration."""
    with rejections_shown(request):
        row = delayed_alerts.find(key)
        require(request, Permission.TEST_INTEGRATIONS, row.integration.group_id)
        if verb == "open":
            delayed_alerts.open_now(row, actor=actor(request), now=request.now)
            messages.success(request, _("Alert opened."))
        else:
            delayed_alerts.drop(row, actor=actor(request), now=request.now)
            messages.success(request, _("Delayed alert dropped."))
        return redirect("integration", row.integration_id)
    return redirect("inbound_log")


# ---------- versions

_MAX_VERSIONS = 100

#: First character of a `difflib` line → CSS class.
_CSS_CLASSES: Mapping[str, str] = {"+": "added", "-": "removed", "@": "place"}


@require_http_methods(["GET", "HEAD", "POST"])
def versions(request: SignedInRequest, number: int) -> HttpResponse:
    """Render the list and the differences between two versions, or restore a version."""
    row, kind = find(number)
    if request.method == "POST":
        require(request, Permission.MANAGE_ROUTING, row.group_id)
        restored_number = number_of(request.POST.get("number"))
        if restored_number is None or restored_number >= 10**9:
            raise Http404
        with rejections_shown(request):
            version = commands.find_version(row, restored_number)
            parts = {**dict.fromkeys(specs.DEFINITION_KEYS), **commands.describe_version(version)}
            if (review := review_change(request, row, parts)) is not None:
                return render_review(request, review, frame(request, row, kind, "versions"), "integration_versions")
            commands.restore_version(row, restored_number, actor=actor(request), now=request.now)
            messages.success(request, _("Version restored. Applies to new messages."))
        return redirect("integration_versions", number)
    rows = list(row.versions.select_related("created_by").order_by("-number")[: _MAX_VERSIONS + 1])
    new = _find_version(rows, request.GET.get("to"), rows[0] if rows else None)
    old = _find_version(rows, request.GET.get("from"), rows[1] if len(rows) > 1 else None)
    context = {
        **frame(request, row, kind, "versions"),
        "versions": rows[:_MAX_VERSIONS],
        "more": len(rows) > _MAX_VERSIONS,
        "old": old,
        "new": new,
        "changes": _changes(old, new) if old and new else [],
    }
    return render_view(request, "integrations/versions.html", context)


def _find_version(
    rows: list[IntegrationVersion], requested_number: Any, default: IntegrationVersion | None
) -> IntegrationVersion | None:
    return next((version for version in rows if str(version.number) == requested_number), default)


def _changes(old: IntegrationVersion, new: IntegrationVersion) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return (part, lines with CSS class) for each part that differs."""
    names = specs.load_reference_names()
    part_changes = commands.compare(commands.describe_version(old, names), commands.describe_version(new, names))
    return [(change.part.replace("_", " "), _lines(change)) for change in part_changes]


def _lines(change: DefinitionChange) -> list[tuple[str, str]]:
    before, after = (condition_form.write(value).splitlines(keepends=True) for value in (change.before, change.after))
    lines = list(difflib.unified_diff(before, after, n=3))[2:]
    return [(_CSS_CLASSES.get(line[0], ""), line if line.endswith("\n") else f"{line}\n") for line in lines]


# ---------- test tab

#: Maximum number of messages shown for a payload that is an array.
MAX_MESSAGES_SHOWN = 20


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.TEST_INTEGRATIONS)
def test(request: SignedInRequest, number: int) -> HttpResponse:
    """Show the outcome of a payload. Nothing is stored or sent."""
    row, kind = find(number)
    require(request, Permission.TEST_INTEGRATIONS, row.group_id)
    if kind is None:
        return render_view(request, "integrations/unknown.html", frame(request, row, kind, "test"))
    payload = views.message_payload_or_default(row, kind, request.GET.get("message", ""))
    choices = views.choices(row, kind)
    form = IntegrationTestForm(
        request.POST or None, choices=choices, initial={"chosen": payload.key, "payload": payload.text}
    )
    context: dict[str, Any] = {**frame(request, row, kind, "test"), "outcome_views": [], "problem": ""}
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        payload = views.find_payload(row, kind, data["chosen"], data["payload"])
        if payload.key != views.PASTED:
            # Show the payload that is actually simulated.
            form = IntegrationTestForm({**request.POST.dict(), "payload": payload.text}, choices=choices)
            form.is_valid()
        try:
            simulation = simulate_integration(
                compile_stored(row),
                payload.body,
                payload.content_type,
                data["at"] or request.now,
                limit=MAX_MESSAGES_SHOWN,
            )
        except Rejected as rejected:
            context["problem"] = rejected.reason.localized()
        else:
            context |= {
                "outcome_views": views.outcome_views(simulation.outcomes),
                "at": data["at"],
                "problem": simulation.partial.localized() if simulation.partial else "",
            }
    context["form"] = form
    return render_view(request, "integrations/test.html", context, partials=("result",))


@require_POST
@requires(Permission.MANAGE_ROUTING)
def mailbox(request: SignedInRequest, number: int) -> HttpResponse:
    """Sign in to the integration's mailbox and report the waiting messages."""
    row, _kind = find(number)
    require(request, Permission.MANAGE_ROUTING, row.group_id)
    imap = secrets.credentials_of(row).get("imap", {})
    try:
        report = email.check_mailbox(imap.get("mailbox", ""), imap.get("password", ""))
    except (Rejected, Permanent, Temporary) as error:
        messages.error(request, error.full_reason.localized())
    else:
        messages.success(request, report.localized())
    return redirect("integration_security", number)


@require_POST
@requires(Permission.TEST_INTEGRATIONS)
def sample(request: SignedInRequest, number: int) -> HttpResponse:
    """Post a sample through the public webhook URL. Its alert is marked TEST and pages only the user who sent it."""
    row, _kind = find(number)
    require(request, Permission.TEST_INTEGRATIONS, row.group_id)
    sample_name = request.POST.get("sample") or request.POST.get("chosen", "").partition("sample:")[2]
    try:
        sent = samples.send_sample(row, actor(request), sample_name or None, now=request.now)
    except (Rejected, Permanent, Temporary) as error:
        messages.error(request, error.full_reason.localized())
        return redirect("integration_test", number)
    text = _("%(url)s responded in %(ms)d ms: %(status)s. %(reason)s")
    values = {
        "url": environment.current().public_url,
        "ms": sent.took,
        "status": sent.status,
        "reason": sent.reason.localized(),
    }
    messages.success(request, text % values)
    return redirect("alert", sent.alert_id) if sent.alert_id else redirect("message", sent.message_id)


# ---------- routing presets

WEEK = timedelta(days=7)

#: The part of the spec that the preset changes.
ROUTES = "routes"

#: Maximum number of the week's newest messages evaluated.
_MAX_COUNTED_MESSAGES = 5_000

#: Up to this many messages are counted within the first response.
_MAX_IMMEDIATE_MESSAGES = 200

#: Number of most frequent types and clients offered.
_MAX_CHOICES = 12


@dataclass(frozen=True, slots=True)
class PresetOption:
    """One preset as shown in the form."""

    preset: RoutingPreset
    label: str
    totals: BacktestTotals | None
    is_selected: bool


@require_http_methods(["GET", "HEAD", "POST"])
def paging_preset(request: SignedInRequest, number: int) -> HttpResponse:
    """Render the presets with last week's counts, or save one as the first route."""
    row, kind = find(number)
    if kind is None:
        return render_view(request, "integrations/unknown.html", frame(request, row, kind, "routing"))
    names = specs.load_reference_names()
    parts = commands.parts_of(row, names)
    stored_preset = simple_rules.preset_of(parts.get(ROUTES))
    preset, problem, review = stored_preset or RoutingPreset(), "", None
    snapshot = FormSnapshot.of(request, INTEGRATIONS, row, keys=(ROUTES,))
    if request.method == "POST":
        require(request, Permission.MANAGE_ROUTING, row.group_id)
        post = request.POST
        name = str(post.get("which", ""))
        preset = RoutingPreset(
            PresetKind(name) if name in set(PresetKind) else PresetKind.ALL,
            str(post.get("hours", "")),
            tuple(map(str, post.getlist("types"))),
            tuple(map(str, post.getlist("clients"))),
        )
        if post.get("do") == "save" and not preset.is_complete:
            needs_hours = preset.kind is PresetKind.OUTSIDE_SUPPORT_HOURS
            problem = _("Choose the support hours.") if needs_hours else _("Select at least one type or client.")
        elif post.get("do") == "save":
            try:
                routes = simple_rules.routes_with_preset(parts.get(ROUTES), preset)
                review = review_change(request, row, {ROUTES: routes})
                if review is None:
                    with snapshot.unchanged():
                        spec = commands.integration_spec(row)
                        spec[ROUTES] = simple_rules.routes_with_preset(spec.get(ROUTES), preset)
                        commands.save_integration(spec, existing=row, actor=actor(request), now=request.now)
                    messages.success(request, saved_message(request))
                    return redirect("integration", number)
            except Rejected as rejected:
                problem = rejected.reason.localized()
    hours = sorted(names.hours.values(), key=str.casefold)
    # Render at once; with many messages the counts are loaded by a second request.
    is_counted = (
        request.headers.get(PARTIAL_HEADER) == "counts"
        or request.method == "POST"
        or not backtest.has_more_than(_MAX_IMMEDIATE_MESSAGES, row, request.now - WEEK)
    )
    # Half of the time for the choices, half for the totals.
    budgets = MessageBudget(MAX_SECONDS / 2), MessageBudget(MAX_SECONDS / 2)
    types, clients = _observed_values(row, request, budgets[0]) if is_counted else (Counter(), Counter())
    candidates = {
        PresetKind.ALL: (_("All new tickets"), replace(preset, kind=PresetKind.ALL)),
        PresetKind.URGENT: (_("Critical and high priority"), replace(preset, kind=PresetKind.URGENT)),
        PresetKind.OUTSIDE_SUPPORT_HOURS: (
            _("Outside support hours"),
            replace(preset, kind=PresetKind.OUTSIDE_SUPPORT_HOURS, hours=preset.hours or (*hours, "")[0]),
        ),
        PresetKind.SELECTED: (_("Selected types or clients"), replace(preset, kind=PresetKind.SELECTED)),
    }
    drafts = [candidate for _label, candidate in candidates.values() if candidate.is_complete and is_counted]
    totals = _count_totals(row, parts, drafts, names, request.now - WEEK, budgets[1])
    has_selection = stored_preset is not None or request.method == "POST"
    context = {
        "counts": is_counted,
        **frame(request, row, kind, "routing"),
        "options": [
            PresetOption(candidate, label, totals.get(one), has_selection and one is preset.kind)
            for one, (label, candidate) in candidates.items()
        ],
        "partial": budgets[1].reason or budgets[0].reason,
        "preset": preset,
        "hours": hours,
        "types": _choices(types, preset.types),
        "clients": _choices(clients, preset.clients),
        "problem": problem,
        "review": review,
        "snapshot": snapshot,
    }
    status = 422 if problem else 200
    return render_view(request, "integrations/paging_presets.html", context, partials=("counts",), status=status)


def _count_totals(
    row: Integration,
    parts: dict[str, Any],
    candidates: list[RoutingPreset],
    names: ReferenceNames,
    since: datetime,
    budget: MessageBudget,
) -> dict[PresetKind, BacktestTotals]:
    """Return how often each preset would have paged; nothing if one cannot be saved."""
    try:
        drafts = [
            commands.compile_draft(row, {ROUTES: simple_rules.routes_with_preset(parts.get(ROUTES), candidate)}, names)
            for candidate in candidates
        ]
    except Rejected:
        return {}
    if not drafts:
        return {}
    totals = backtest.count_totals(row, drafts, since, budget, limit=_MAX_COUNTED_MESSAGES)
    return {candidate.kind: total for candidate, total in zip(candidates, totals, strict=True)}


def _observed_values(
    row: Integration, request: SignedInRequest, budget: MessageBudget
) -> tuple[Counter[str], Counter[str]]:
    """Return how often each type and client occurred on tickets that open an alert."""
    types: Counter[str] = Counter()
    clients: Counter[str] = Counter()
    compiled = commands.compile_stored(row)
    since = request.now - WEEK
    for message in backtest.load_messages(row, compiled, since, budget, limit=_MAX_COUNTED_MESSAGES // 2):
        event = None if isinstance(message.element, Rejected) else compiled.normalizer.normalize(message.element)
        if isinstance(event, NormalizedEvent) and event.action is EventAction.OPEN:
            for counter, field in ((types, "ticket_type"), (clients, "client")):
                if name := event.mapped.text(field):
                    counter[name] += 1
    return types, clients


def _choices(counts: Counter[str], selected: tuple[str, ...]) -> list[tuple[str, int, bool]]:
    names = dict.fromkeys([*(name for name, _count in counts.most_common(_MAX_CHOICES)), *selected])
    return [(name, counts[name], name in selected) for name in names]
