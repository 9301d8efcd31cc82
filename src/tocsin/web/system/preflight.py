"""The pre-flight as the System page draws it: for each way of an integration, the people as they would be paged."""

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

#: The hour that a night's pager is about.
NIGHT_HOUR = 3

#: So many pages at most; those that come an hour later and more are told by their number.
MAX_PAGES_SHOWN = 12

#: So many of the clients that go one way are named.
MAX_CLIENTS_SHOWN = 4


@dataclass(frozen=True, slots=True)
class PreflightPerson:
    """Whom one way pages, and when: the channels of each moment, and why one of them could not leave."""

    name: str
    moments: Sequence[tuple[str, datetime, str]]


@dataclass(frozen=True, slots=True)
class PreflightPath:
    """One way, by its route or by none."""

    route: str
    policy: str
    people: Sequence[PreflightPerson]
    #: How many pages come after those that are shown.
    more: int
    notes: Sequence[str]
    #: Nobody would be reached, and that is not meant.
    is_wrong: bool
    #: Somebody would be reached, but not soon.
    is_late: bool
    #: The first clients of the route's table that go this way; empty: those that are not in it; None: it has none.
    clients: Sequence[str] | None
    more_clients: int


@dataclass(frozen=True, slots=True)
class PreflightRow:
    """One integration."""

    number: int
    name: str
    is_dry_run: bool
    is_fine: bool
    ways: Sequence[PreflightPath]


class MomentForm(forms.Form):
    """The moment that the pre-flight is about, in the reader's zone."""

    at = MomentField(label=_("If a critical alert opened at"), required=False)


def read(request: SignedInRequest) -> dict[str, Any]:
    """Everything that the part of the page shows."""
    begin = preflight.next_at(NIGHT_HOUR, timezone.localtime(request.now))
    form = MomentForm(request.GET if "at" in request.GET else None, initial={"at": begin})
    chosen = form.cleaned_data["at"] if form.is_bound and form.is_valid() else None
    at = chosen or begin
    return {"moment_form": form, "at": at, "rows": [_row(one) for one in preflight.preflight(at, registry.shared())]}


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
    """Pages of the same minute in one: ("E-mail, SMS", 03:00, "")."""
    for minute, alike in groupby(pages, key=lambda page: page.at.replace(second=0, microsecond=0)):
        together = list(alike)
        channels = dict.fromkeys(channel_name(page.channel) for page in together)
        problems = dict.fromkeys(page.problem for page in together if page.problem)
        yield ", ".join(channels), minute, " ".join(problems)
