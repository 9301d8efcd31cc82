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

from tocsin.core.reasons import Reason, joined
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
    moments: Sequence[tuple[str, datetime, Reason]]


@dataclass(frozen=True, slots=True)
class PreflightPath:
    """The result of one route, or of the integration without a route."""

    route: str
    policy: str
    people: Sequence[PreflightPerson]
    #: Number of pages beyond those shown.
    more_pages: int
    notes: Sequence[Reason]
    #: Whether nobody would be reached although the integration should page.
    reaches_nobody: bool
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
    paths: Sequence[PreflightPath]


class MomentForm(forms.Form):
    """The time of the pre-flight check, in the user's time zone."""

    at = MomentField(label=_("Simulate a critical alert at"), required=False)


def read(request: SignedInRequest) -> dict[str, Any]:
    """Return the template context of the pre-flight check."""
    default_at = preflight.next_at(NIGHT_HOUR, timezone.localtime(request.now))
    form = MomentForm(request.GET if "at" in request.GET else None, initial={"at": default_at})
    requested_at = form.cleaned_data["at"] if form.is_bound and form.is_valid() else None
    at = requested_at or default_at
    return {
        "moment_form": form,
        "at": at,
        "rows": [_row(result) for result in preflight.preflight(at, registry.shared_registry())],
    }


def _row(result: preflight.PreflightResult) -> PreflightRow:
    is_dry_run = result.mode is IntegrationMode.DRY_RUN
    return PreflightRow(
        result.id, result.name, is_dry_run, result.is_fine, [_path(route, is_dry_run) for route in result.routes]
    )


def _path(route: preflight.PreflightRoute, is_dry_run: bool) -> PreflightPath:
    reaches_nobody = not (route.reaches_anybody or route.is_log_only or is_dry_run)
    first = route.pages[0].after if route.pages else timedelta()
    horizon = max(preflight.LATE_AFTER, first + timedelta(minutes=1))
    shown_pages = [page for page in route.pages if page.after <= horizon][:MAX_PAGES_SHOWN]
    people = [
        PreflightPerson(name, list(_moments(pages)))
        for name, pages in preflight.pages_by_recipient(shown_pages).items()
    ]
    return PreflightPath(
        route.route,
        route.policy,
        people,
        len(route.pages) - len(shown_pages),
        route.notes,
        reaches_nobody,
        first > preflight.LATE_AFTER,
        None if route.clients is None else route.clients[:MAX_CLIENTS_SHOWN],
        max(0, len(route.clients or ()) - MAX_CLIENTS_SHOWN),
    )


def _moments(pages: Sequence[SimulatedPage]) -> Iterator[tuple[str, datetime, Reason]]:
    """Combine pages of the same minute: ("E-mail, SMS", 03:00, NO_REASON)."""
    for minute, same_minute in groupby(pages, key=lambda page: page.at.replace(second=0, microsecond=0)):
        minute_pages = list(same_minute)
        channels = dict.fromkeys(channel_name(page.channel) for page in minute_pages)
        problems = dict.fromkeys(page.problem for page in minute_pages if page.problem)
        yield ", ".join(channels), minute, joined(*problems, separator=" ")
