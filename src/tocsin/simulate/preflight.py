"""Lists whom a critical alert would page at a given time if nobody responds, for each integration and route.

Uses the engine, schedules and page planner of the live path. Sends and stores nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tocsin.alerts.change_handlers import PagingMode
from tocsin.alerts.commands import AlertState
from tocsin.alerts.states import AlertStatus, Priority
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.validation import durations
from tocsin.escalation.policy import policy_cache
from tocsin.escalation.policy.policy import RECIPIENTS_ONLY
from tocsin.escalation.run.run_status import begin_run
from tocsin.escalation.run.target_resolution import TargetFacts
from tocsin.inbound.config.client_routing import route_for_client, table_of
from tocsin.inbound.config.compiled_integration import ClientEntry, CompiledIntegration
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.config.routes import Route, RouteAction, RouteChoice
from tocsin.inbound.deciding.alert_creation import groups_of, policy_for, users_of
from tocsin.inbound.enums import IntegrationMode
from tocsin.simulate.escalation import NEW_ALERT, SimulatedPage, SimulatedRun, play

#: A first page later than this is noted.
LATE_AFTER = timedelta(hours=1)

#: The maximum number of routes examined per client table.
MAX_CLIENT_ROUTES = 25

_OWN = RouteChoice(None, "", "the integration's own policy and recipients")


@dataclass(frozen=True, slots=True)
class PreflightRoute:
    """One route that an alert of the integration may take at that time."""

    #: The route's name; empty: the integration's own policy and recipients.
    route: str
    policy: str
    pages: tuple[SimulatedPage, ...]
    #: Further information, such as why nobody is paged, in sentences.
    notes: tuple[str, ...]
    #: The route is log only, so paging nobody is intended.
    records: bool = False
    #: The clients routed this way by a client table; empty: those not in it; None: there is no table.
    clients: tuple[str, ...] | None = None

    @property
    def reaches(self) -> bool:
        """Whether at least one page could really be sent."""
        return any(not page.problem for page in self.pages)


@dataclass(frozen=True, slots=True)
class PreflightResult:
    """One integration at that time."""

    id: int
    name: str
    #: Whether it pages, or is in dry run.
    mode: IntegrationMode
    #: The routes active at that time, in order, and last the integration's own.
    ways: tuple[PreflightRoute, ...]

    @property
    def is_fine(self) -> bool:
        """Whether every route reaches somebody, except log-only routes; an integration in dry run is always fine."""
        return self.mode is not IntegrationMode.PAGE or all(way.records or way.reaches for way in self.ways)


def preflight(at: datetime, registry: IntegrationRegistry | None = None) -> list[PreflightResult]:
    """Simulates a critical alert at `at` for every enabled integration, sorted by name."""
    known = registry or IntegrationRegistry()
    known.refresh()
    doors = sorted(known.doors().values(), key=lambda door: door.name.casefold())
    found = []
    for door in doors:
        if door.mode is IntegrationMode.DISABLED:
            continue
        # One transaction each, so that none is long, however many integrations there are.
        with database.transaction() as connection:
            found.append(PreflightResult(door.id, door.name, door.mode, tuple(_ways(connection, door, at))))
    return found


def _ways(connection: Connection, door: CompiledIntegration, at: datetime) -> Iterator[PreflightRoute]:
    if door.problem is not None:
        yield PreflightRoute("", "", (), (f"Its configuration cannot be used: {door.problem.detail}",))
        return
    for route in door.reader.routes:
        if _holds(door, route, at):
            yield from _ways_of(connection, door, _chosen(route), at)
    yield _way(connection, door, _OWN, at)


def _holds(door: CompiledIntegration, route: Route, at: datetime) -> bool:
    """Whether the route can be taken at `at`; its conditions on the message cannot be known."""
    return route.during is None or door.in_hours(route.during.hours, at) is not route.during.is_outside


def _ways_of(
    connection: Connection, door: CompiledIntegration, choice: RouteChoice, at: datetime
) -> Iterator[PreflightRoute]:
    """The variants of a route: with a client table, one per group and policy in it, plus one for other clients."""
    own = _way(connection, door, choice, at)
    table = table_of(door, choice)
    if table is None:
        yield own
        return
    alike: dict[tuple[int | None, int | None], list[ClientEntry]] = {}
    for entry in table.clients.values():
        alike.setdefault((entry.group_id, entry.policy_id), []).append(entry)
    ways: dict[PreflightRoute, list[str]] = {}
    for entries in list(alike.values())[:MAX_CLIENT_ROUTES]:
        way = _way(connection, door, route_for_client(choice, entries[0], table.name), at)
        # Clients with the same pages are merged into one route, even if the users are paged in different capacities.
        key = replace(way, pages=tuple(replace(page, reason="") for page in way.pages))
        ways.setdefault(key, []).extend(entry.client for entry in entries)
    for way, clients in ways.items():
        yield replace(way, clients=tuple(clients))
    more = len(alike) - MAX_CLIENT_ROUTES
    left = (f"{more} more ways of client table {table.name} are not looked at.",) if more > 0 else ()
    yield replace(own, clients=(), notes=(*own.notes, *left))


def _chosen(route: Route) -> RouteChoice:
    return RouteChoice(
        None,
        route.name,
        route.name,
        route.policy,
        route.users,
        route.groups,
        route.priority,
        route.action,
        route.table,
    )


def _way(connection: Connection, door: CompiledIntegration, choice: RouteChoice, at: datetime) -> PreflightRoute:
    policy = policy_for(door, choice)
    name = policy.name if policy is not None else ""
    if choice.action is RouteAction.RECORD:
        return PreflightRoute(choice.name, name, (), ("The route only records: nobody is paged.",), records=True)
    users, groups = users_of(door, choice), groups_of(door, choice)
    if policy is None and not users:
        return PreflightRoute(
            choice.name, "", (), ("Nobody is paged: there is neither a policy nor a recipient user.",)
        )
    mode = PagingMode.DRY_RUN if door.mode is IntegrationMode.DRY_RUN else PagingMode.PAGE
    version = policy.version_id if policy is not None else None
    played = _played(connection, mode, version, users, groups, at)
    notes = played.notes or (() if played.pages else ("Nobody would be reached.",))
    if played.pages and played.pages[0].after > LATE_AFTER:
        notes = (f"For {durations.describe(played.pages[0].after)} nobody is called.", *notes)
    return PreflightRoute(choice.name, name, played.pages, tuple(notes))


def _played(
    connection: Connection,
    mode: PagingMode,
    version: int | None,
    users: tuple[int, ...],
    groups: tuple[int, ...],
    at: datetime,
) -> SimulatedRun:
    plan = policy_cache.load_plans(connection, {version}).get(version, RECIPIENTS_ONLY)
    run = begin_run(NEW_ALERT, plan, mode, Priority.CRITICAL, at, recipient_users=users, recipient_groups=groups)
    alert = AlertState(NEW_ALERT, AlertStatus.OPEN, Priority.CRITICAL, at)
    return play(connection, run, alert, TargetFacts(), "")


def next_at(hour: int, now: datetime) -> datetime:
    """The next time it is `hour` o'clock in the zone of `now`."""
    today = now.replace(hour=hour, minute=0, second=0, microsecond=0)
    return today if today > now else (today + timedelta(days=1)).replace(hour=hour)


def by_person(pages: Sequence[SimulatedPage]) -> dict[str, list[SimulatedPage]]:
    """The pages by recipient, in the order in which each is first paged."""
    found: dict[str, list[SimulatedPage]] = {}
    for page in pages:
        found.setdefault(page.name, []).append(page)
    return found
