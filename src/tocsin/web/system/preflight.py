"""Prepares the pre-flight check for the System view: per integration and route, who would be paged and when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from tocsin.inbound.config import registry
from tocsin.inbound.enums import IntegrationMode
from tocsin.simulate import preflight
from tocsin.simulate.escalation import SimulatedPage
from tocsin.web.http.request import SignedInRequest
from tocsin.web.ui.choices import channel_name
from tocsin.web.ui.forms import MomentField

#: The hour of the default check, in the middle of the night.
NIGHT_HOUR = 3

#: Maximum number of pages shown; later ones are only counted.
MAX_PAGES_SHOWN = 12

#: Maximum number of clients named per route.
MAX_CLIENTS_SHOWN = 4


@dataclass(frozen=True, slots=True)
class PreflightPerson:
    """One recipient with the pages: (channels, time, problem)."""

    name: str
    moments: Sequence[tuple[str, datetime, str]]


@dataclass(frozen=True, slots=True)
class PreflightPath:
    """The result of one route, or of the integration without a route."""

    route: str
    policy: str
    people: Sequence[PreflightPerson]
    #: Number of pages beyond those shown.
    more: int
    notes: Sequence[str]
    #: Whether nobody would be reached although the integration should page.
    is_wrong: bool
    #: Whether somebody would be reached, but late.
    is_late: bool
    #: The first clients of the route's client table on this path. Empty: clients that are not in the table. None: the
    #: route has no table.
    clients: Sequence[str] | None
    more_clients: int


@dataclass(frozen=True, slots=True)
class PreflightRow:
    """The result of one integration."""

    number: int
    name: str
    is_dry_run: bool
    is_fine: bool
    ways: Sequence[PreflightPath]


class MomentForm(forms.Form):
    """The time of the pre-flight check, in the user's time zone."""

    at = MomentField(label=_("If a critical alert opened at"), required=False)


def read(request: SignedInRequest) -> dict[str, Any]:
    """Return the template context of the pre-flight check."""
    begin = preflight.next_at(NIGHT_HOUR, timezone.localtime(request.now))
    form = MomentForm(request.GET if "at" in request.GET else None, initial={"at": begin})
    chosen = form.cleaned_data["at"] if form.is_bound and form.is_valid() else None
    at = chosen or begin
    return {
        "moment_form": form,
        "at": at,
        "rows": [_row(one) for one in preflight.preflight(at, registry.shared_registry())],
    }


def _row(one: preflight.PreflightResult) -> PreflightRow:
    is_dry_run = one.mode is IntegrationMode.DRY_RUN
    return PreflightRow(one.id, one.name, is_dry_run, one.is_fine, [_way(way, is_dry_run) for way in one.ways])


def _way(way: preflight.PreflightRoute, is_dry_run: bool) -> PreflightPath:
    is_wrong = not (way.reaches or way.records or is_dry_run)
    first = way.pages[0].after if way.pages else timedelta()
    within = max(preflight.LATE_AFTER, first + timedelta(minutes=1))
    shown = [page for page in way.pages if page.after <= within][:MAX_PAGES_SHOWN]
    people = [PreflightPerson(name, list(_moments(pages))) for name, pages in preflight.by_person(shown).items()]
    return PreflightPath(
        way.route,
        way.policy,
        people,
        len(way.pages) - len(shown),
        way.notes,
        is_wrong,
        first > preflight.LATE_AFTER,
        None if way.clients is None else way.clients[:MAX_CLIENTS_SHOWN],
        max(0, len(way.clients or ()) - MAX_CLIENTS_SHOWN),
    )


def _moments(pages: Sequence[SimulatedPage]) -> Iterator[tuple[str, datetime, str]]:
    """Combine pages of the same minute: ("E-mail, SMS", 03:00, "")."""
    for minute, alike in groupby(pages, key=lambda page: page.at.replace(second=0, microsecond=0)):
        together = list(alike)
        channels = dict.fromkeys(channel_name(page.channel) for page in together)
        problems = dict.fromkeys(page.problem for page in together if page.problem)
        yield ", ".join(channels), minute, " ".join(problems)
