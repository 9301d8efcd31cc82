"""The "Which tickets page?" presets, each with the number of pages it would have caused in the last seven days."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from tocsin.access.roles import Permission
from tocsin.core.errors import Rejected
from tocsin.inbound.admin import commands, simple_rules, specs
from tocsin.inbound.admin.simple_rules import PresetKind, RoutingPreset
from tocsin.inbound.config.compiled_integration import ReferenceNames
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.models import Integration
from tocsin.inbound.storage.messages import MAX_SECONDS, MessageBudget
from tocsin.resources.registry import INTEGRATIONS
from tocsin.simulate import backtest
from tocsin.simulate.backtest import BacktestTotals
from tocsin.web.http.request import PARTIAL_HEADER, SignedInRequest, actor, render_view, require
from tocsin.web.integrations.views import SaveReview, find, frame, review_change
from tocsin.web.ui.confirm_delete import FormSnapshot

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
    stored_preset = simple_rules.preset_of(parts.get("routes"))
    preset, problem, review = stored_preset or RoutingPreset(), "", None
    snapshot = FormSnapshot.of(request, INTEGRATIONS, row, keys=(ROUTES,))
    if request.method == "POST":
        require(request, Permission.MANAGE_ROUTING, row.group_id)
        preset = _posted_preset(request)
        if request.POST.get("do") == "save":
            problem, review = _save(request, row, parts, preset, snapshot)
            if not problem and review is None:
                messages.success(request, _("Saved. Applies to new messages."))
                return redirect("integration", number)
    hours = sorted(names.hours.values(), key=str.casefold)
    # Render at once; with many messages the counts are loaded by a second request.
    is_deferred = request.headers.get(PARTIAL_HEADER) == "counts"
    counts = (
        is_deferred
        or request.method == "POST"
        or not backtest.has_more_than(_MAX_IMMEDIATE_MESSAGES, row, request.now - WEEK)
    )
    # Half of the time for the choices, half for the totals.
    budgets = MessageBudget(MAX_SECONDS / 2), MessageBudget(MAX_SECONDS / 2)
    types, clients = _observed_values(row, request, budgets[0]) if counts else (Counter(), Counter())
    context = {
        "counts": counts,
        **frame(request, row, kind, "routing"),
        "options": _options(row, parts, preset, stored_preset, hours, names, request, budgets[1], counts=counts),
        "partial": budgets[1].reason or budgets[0].reason,
        "preset": preset,
        "hours": hours,
        "types": _choices(types, preset.types),
        "clients": _choices(clients, preset.clients),
        "problem": problem,
        "review": review,
        "snapshot": snapshot,
    }
    return render_view(
        request,
        "integrations/paging_presets.html",
        context,
        partials=("counts",),
        status=422 if problem else 200,
    )


def _posted_preset(request: SignedInRequest) -> RoutingPreset:
    post = request.POST
    preset_name = str(post.get("which", ""))
    return RoutingPreset(
        PresetKind(preset_name) if preset_name in set(PresetKind) else PresetKind.ALL,
        str(post.get("hours", "")),
        tuple(map(str, post.getlist("types"))),
        tuple(map(str, post.getlist("clients"))),
    )


def _save(
    request: SignedInRequest,
    row: Integration,
    parts: dict[str, Any],
    preset: RoutingPreset,
    snapshot: FormSnapshot,
) -> tuple[str, SaveReview | None]:
    """Save the preset. Return the problem in words, or "" with the change to be confirmed first, if any."""
    if not preset.is_complete:
        return (
            _("Choose the support hours.")
            if preset.kind is PresetKind.OUTSIDE_SUPPORT_HOURS
            else _("Select at least one type or client.")
        ), None
    try:
        routes = simple_rules.routes_with_preset(parts.get(ROUTES), preset)
        if (review := review_change(request, row, {ROUTES: routes})) is not None:
            return "", review
        with snapshot.unchanged():
            spec = commands.integration_spec(row)
            spec[ROUTES] = simple_rules.routes_with_preset(spec.get(ROUTES), preset)
            commands.save_integration(spec, existing=row, actor=actor(request), now=request.now)
    except Rejected as rejected:
        return rejected.reason.localized(), None
    return "", None


def _options(
    row: Integration,
    parts: dict[str, Any],
    preset: RoutingPreset,
    stored_preset: RoutingPreset | None,
    hours: list[str],
    names: ReferenceNames,
    request: SignedInRequest,
    budget: MessageBudget,
    *,
    counts: bool,
) -> list[PresetOption]:
    labels = {
        PresetKind.ALL: _("All new tickets"),
        PresetKind.URGENT: _("Critical and high priority"),
        PresetKind.OUTSIDE_SUPPORT_HOURS: _("Outside support hours"),
        PresetKind.SELECTED: _("Selected types or clients"),
    }
    candidates = [replace(preset, kind=candidate) for candidate in PresetKind]
    candidates = [
        replace(candidate, hours=candidate.hours or hours[0])
        if candidate.kind is PresetKind.OUTSIDE_SUPPORT_HOURS and hours
        else candidate
        for candidate in candidates
    ]
    totals_by_kind: dict[PresetKind, BacktestTotals] = {}
    complete = [candidate for candidate in candidates if candidate.is_complete and counts]
    try:
        compiled_candidates = [
            commands.compile_draft(
                row, {"routes": simple_rules.routes_with_preset(parts.get("routes"), candidate)}, names
            )
            for candidate in complete
        ]
    except Rejected:
        compiled_candidates = []
    if compiled_candidates:
        since = request.now - WEEK
        totals_list = backtest.count_totals(row, compiled_candidates, since, budget, limit=_MAX_COUNTED_MESSAGES)
        totals_by_kind = {candidate.kind: totals for candidate, totals in zip(complete, totals_list, strict=True)}
    has_selection = stored_preset is not None or request.method == "POST"
    return [
        PresetOption(
            candidate,
            labels[candidate.kind],
            totals_by_kind.get(candidate.kind),
            has_selection and candidate.kind is preset.kind,
        )
        for candidate in candidates
    ]


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
    frequent = [(name, count, name in selected) for name, count in counts.most_common(_MAX_CHOICES)]
    return [
        *frequent,
        *((name, counts[name], True) for name in selected if name not in dict(counts.most_common(_MAX_CHOICES))),
    ]
