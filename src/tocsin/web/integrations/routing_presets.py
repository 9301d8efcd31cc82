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
from tocsin.inbound.admin import commands, drafts, presets, specs
from tocsin.inbound.admin.presets import PresetKind, RoutingPreset
from tocsin.inbound.admin.references import ReferenceNames
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.models import Integration
from tocsin.simulate import backtest
from tocsin.simulate.backtest_diff import BacktestTotals
from tocsin.web.http.authorization import actor, require
from tocsin.web.http.request import PART, SignedInRequest, page
from tocsin.web.integrations.views import find, frame
from tocsin.web.ui.edit_conflicts import FormSnapshot

WEEK = timedelta(days=7)

#: The part of the spec that the preset changes.
ROUTES = "routes"

#: Maximum number of the week's newest messages evaluated.
_COUNTED = 5_000

#: Up to this many messages are counted within the first response.
_AT_ONCE = 200

#: Number of most frequent types and clients offered.
_OFFERED = 12


@dataclass(frozen=True, slots=True)
class PresetOption:
    """One preset as shown in the form."""

    answer: RoutingPreset
    label: str
    tally: BacktestTotals | None
    is_chosen: bool


@require_http_methods(["GET", "HEAD", "POST"])
def which(request: SignedInRequest, number: int) -> HttpResponse:
    """Render the presets with last week's counts, or save one as the first route."""
    row, kind = find(number)
    if kind is None:
        return page(request, "integrations/unknown.html", frame(request, row, kind, "routing"))
    names = specs.names()
    parts = drafts.parts_of(row, names)
    known = presets.answer_of(parts.get("routes"))
    answer, problem = known or RoutingPreset(), ""
    seen = FormSnapshot.of(request, "integration", row, commands.integration_spec, keys=(ROUTES,))
    if request.method == "POST":
        require(request, Permission.ROUTING, row.group_id)
        answer = _answer(request)
        if request.POST.get("do") == "save":
            problem = _save(request, row, answer, seen)
            if not problem:
                messages.success(request, _("Saved. Messages from now on are decided by this."))
                return redirect("integration", number)
    hours = sorted(names.hours.values(), key=str.casefold)
    # Render at once; with many messages the counts are loaded by a second request.
    is_later = request.headers.get(PART) == "counts"
    counts = is_later or request.method == "POST" or not backtest.has_more_than(_AT_ONCE, row, request.now - WEEK)
    types, clients = _seen(row, request) if counts else (Counter(), Counter())
    context = {
        "counts": counts,
        **frame(request, row, kind, "routing"),
        "options": _options(row, parts, answer, known, hours, names, request, counts=counts),
        "answer": answer,
        "hours": hours,
        "types": _offered(types, answer.types),
        "clients": _offered(clients, answer.clients),
        "problem": problem,
        "seen": seen,
    }
    return page(request, "integrations/which.html", context, parts=("counts",), status=422 if problem else 200)


def _answer(request: SignedInRequest) -> RoutingPreset:
    post = request.POST
    chosen = str(post.get("which", ""))
    return RoutingPreset(
        PresetKind(chosen) if chosen in set(PresetKind) else PresetKind.ALL,
        str(post.get("hours", "")),
        tuple(map(str, post.getlist("types"))),
        tuple(map(str, post.getlist("clients"))),
    )


def _save(request: SignedInRequest, row: Integration, answer: RoutingPreset, seen: FormSnapshot) -> str:
    """Save the preset. Return the problem in words, or "" on success."""
    if not answer.is_complete:
        return _("Choose the support hours.") if answer.which is PresetKind.OUTSIDE else _("Choose at least one.")
    try:
        with seen.unchanged():
            spec = commands.integration_spec(row)
            spec[ROUTES] = presets.routes_with(spec.get(ROUTES), answer)
            commands.save_integration(spec, existing=row, actor=actor(request), now=request.now)
    except Rejected as rejected:
        return rejected.detail
    return ""


def _options(
    row: Integration,
    parts: dict[str, Any],
    answer: RoutingPreset,
    known: RoutingPreset | None,
    hours: list[str],
    names: ReferenceNames,
    request: SignedInRequest,
    *,
    counts: bool,
) -> list[PresetOption]:
    labels = {
        PresetKind.ALL: _("All new ones"),
        PresetKind.URGENT: _("Critical and high"),
        PresetKind.OUTSIDE: _("Outside support hours"),
        PresetKind.THESE: _("These types or clients"),
    }
    answers = [replace(answer, which=one) for one in PresetKind]
    answers = [
        replace(one, hours=one.hours or hours[0]) if one.which is PresetKind.OUTSIDE and hours else one
        for one in answers
    ]
    counted: dict[PresetKind, BacktestTotals] = {}
    complete = [one for one in answers if one.is_complete and counts]
    try:
        doors = [
            drafts.compile_draft(row, {"routes": presets.routes_with(parts.get("routes"), one)}, names)
            for one in complete
        ]
    except Rejected:
        doors = []
    if doors:
        tallies = backtest.tally(row, doors, request.now - WEEK, limit=_COUNTED)
        counted = {one.which: tally for one, tally in zip(complete, tallies, strict=True)}
    is_known = known is not None or request.method == "POST"
    return [
        PresetOption(one, labels[one.which], counted.get(one.which), is_known and one.which is answer.which)
        for one in answers
    ]


def _seen(row: Integration, request: SignedInRequest) -> tuple[Counter[str], Counter[str]]:
    """Return how often each type and client occurred on tickets that open an alert."""
    types: Counter[str] = Counter()
    clients: Counter[str] = Counter()
    door = drafts.compile_stored(row)
    for arrived in backtest.messages(row, door, request.now - WEEK, limit=_COUNTED // 2):
        reading = None if isinstance(arrived.element, Rejected) else door.reader.read(arrived.element)
        if isinstance(reading, NormalizedEvent) and reading.intent is EventAction.OPEN:
            for counter, field in ((types, "ticket_type"), (clients, "client")):
                if name := reading.mapped.text(field):
                    counter[name] += 1
    return types, clients


def _offered(seen: Counter[str], chosen: tuple[str, ...]) -> list[tuple[str, int, bool]]:
    found = [(name, count, name in chosen) for name, count in seen.most_common(_OFFERED)]
    return [*found, *((name, seen[name], True) for name in chosen if name not in dict(seen.most_common(_OFFERED)))]
