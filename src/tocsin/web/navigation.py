"""What the shell around every page shows: navigation, the count of open alerts, a pause, the clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext_lazy as _

from tocsin.access.models import ApiToken
from tocsin.access.roles import Action, Reach, Role, reach
from tocsin.core.runtime import clock
from tocsin.notify.models import Pause
from tocsin.web.alerts import queries


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the side bar."""

    label: Any
    icon: str
    view: str
    needs: Action = Action.SEE
    #: Pressed after "g", it goes there.
    key: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """An entry as drawn."""

    label: Any
    icon: str
    url: str
    is_current: bool
    view: str
    key: str


#: (heading, entries). What somebody may not use is not shown.
NAVIGATION: tuple[tuple[Any, tuple[Entry, ...]], ...] = (
    (
        "",
        (
            Entry(_("Home"), "home", "home", key="h"),
            Entry(_("Alerts"), "bell", "alerts", key="a"),
            Entry(_("On call"), "calendar-event", "on_call", key="c"),
            Entry(_("Inbound Log"), "list-details", "inbound_log", key="l"),
        ),
    ),
    (
        _("Who is called"),
        (
            Entry(_("Groups"), "users-group", "groups", key="o"),
            Entry(_("Escalation policies"), "stairs-up", "policies", key="p"),
            Entry(_("Users"), "users", "users", Action.ADMINISTER, key="u"),
        ),
    ),
    (
        _("What happens"),
        (
            Entry(_("Inbound integrations"), "webhook", "integrations", key="i"),
            Entry(_("Outbound integrations"), "arrows-exchange", "outbound_integrations"),
            Entry(_("Workflows"), "git-branch", "workflows", key="f"),
            Entry(_("Maintenance"), "tool", "maintenance", key="m"),
        ),
    ),
    (
        _("Running it"),
        (
            Entry(_("Providers"), "send", "providers", Action.ADMINISTER, key="v"),
            Entry(_("Sandbox"), "flask", "sandbox", key="b"),
            Entry(_("Wall board"), "device-tv", "wall", key="w"),
            Entry(_("Reports"), "chart-bar", "reports", key="r"),
            Entry(_("Audit log"), "history", "audit_log", Action.ADMINISTER, key="t"),
            Entry(_("System"), "activity", "system", Action.ADMINISTER, key="s"),
        ),
    ),
)


def shell(request: HttpRequest) -> dict[str, Any]:
    """Template variables; each is worked out only when the template asks for it."""
    if not request.user.is_authenticated:
        return {"clock_jump": clock.jump()}
    return {
        "navigation": SimpleLazyObject(lambda: list(_navigation(request))),
        "open_count": SimpleLazyObject(queries.open_count),
        "pause": SimpleLazyObject(lambda: _pause(request)),
        "own_tokens": SimpleLazyObject(lambda: _own_tokens(request)),
        "clock_jump": clock.jump(),
        "may_act": reach(Role(request.user.role), Action.ACT) is not Reach.NONE,
        "is_admin": request.user.role == Role.ADMIN,
    }


def _navigation(request: HttpRequest) -> Iterator[tuple[Any, list[Shown]]]:
    role = Role(request.user.role)  # type: ignore[union-attr]
    for heading, entries in NAVIGATION:
        shown = [_shown(entry, request) for entry in entries if reach(role, entry.needs) is not Reach.NONE]
        if shown:
            yield heading, shown


def _shown(entry: Entry, request: HttpRequest) -> Shown:
    url = reverse(entry.view)
    here = request.path
    return Shown(
        entry.label, entry.icon, url, here == url if url == "/" else here.startswith(url), entry.view, entry.key
    )


def _own_tokens(request: HttpRequest) -> int:
    return ApiToken.objects.filter(user=request.user.pk, revoked_at=None).count()


def _pause(request: HttpRequest) -> Pause | None:
    now = request.now  # type: ignore[attr-defined]
    return Pause.objects.filter(ended_at=None, until__gt=now).select_related("user").order_by("-id").first()
