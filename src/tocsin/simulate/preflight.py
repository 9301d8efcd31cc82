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
from tocsin.core.reasons import NO_REASON, Reason, as_reason
from tocsin.escalation.policy import policy_cache
from tocsin.escalation.policy.policy import RECIPIENTS_ONLY
from tocsin.escalation.run.run_status import begin_run
from tocsin.escalation.run.target_resolution import TargetFacts
from tocsin.inbound.config.client_routing import client_table_of, route_for_client
from tocsin.inbound.config.compiled_integration import ClientEntry, CompiledIntegration
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.config.routes import Route, RouteAction, RouteChoice
from tocsin.inbound.deciding.alert_creation import groups_of, policy_for, users_of
from tocsin.inbound.enums import IntegrationMode
from tocsin.simulate import reasons
from tocsin.simulate.escalation import NEW_ALERT, SimulatedPage, SimulatedRun, play

#: A first page later than this is noted.
LATE_AFTER = timedelta(hours=1)

#: The maximum number of routes examined per client table.
MAX_CLIENT_ROUTES = 25

_INTEGRATION_DEFAULT = RouteChoice(None, "", NO_REASON)


@dataclass(frozen=True, slots=True)
class PreflightRoute:
    """One route that an alert of the integration may take at that time."""

    #: The route's name; empty: the integration's own policy and recipients.
    route: str
    policy: str
    pages: tuple[SimulatedPage, ...]
    #: Further information, such as why nobody is paged.
    notes: tuple[Reason, ...]
    #: The route is log only, so paging nobody is intended.
    is_log_only: bool = False
    #: The clients routed this way by a client table; empty: those not in it; None: there is no table.
    clients: tuple[str, ...] | None = None

    @property
    def reaches_anybody(self) -> bool:
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
    routes: tuple[PreflightRoute, ...]

    @property
    def is_fine(self) -> bool:
        """Whether every route reaches somebody, except log-only routes; an integration in dry run is always fine."""
        return self.mode is not IntegrationMode.PAGE or all(
            route.is_log_only or route.reaches_anybody for route in self.routes
        )


def preflight(at: datetime, registry: IntegrationRegistry | None = None) -> list[PreflightResult]:
    """Simulates a critical alert at `at` for every enabled integration, sorted by name."""
    loaded_registry = registry or IntegrationRegistry()
    loaded_registry.refresh()
    integrations = sorted(loaded_registry.get_all().values(), key=lambda integration: integration.name.casefold())
    results = []
    for integration in integrations:
        if integration.mode is IntegrationMode.DISABLED:
            continue
        # One transaction each, so that none is long, however many integrations there are.
        with database.transaction() as connection:
            results.append(
                PreflightResult(
                    integration.id,
                    integration.name,
                    integration.mode,
                    tuple(_simulate_routes(connection, integration, at)),
                )
            )
    return results


def _simulate_routes(
    connection: Connection, integration: CompiledIntegration, at: datetime
) -> Iterator[PreflightRoute]:
    if integration.problem is not None:
        problem = reasons.CONFIGURATION_UNUSABLE(problem=integration.problem.reason)
        yield PreflightRoute("", "", (), (problem,))
        return
    for route in integration.normalizer.routes:
        if _is_active(integration, route, at):
            yield from _simulate_client_table(connection, integration, _route_choice(route), at)
    yield _simulate_route(connection, integration, _INTEGRATION_DEFAULT, at)


def _is_active(integration: CompiledIntegration, route: Route, at: datetime) -> bool:
    """Whether the route can be taken at `at`; its conditions on the message cannot be known."""
    return route.during is None or integration.in_hours(route.during.hours, at) is not route.during.is_outside


def _simulate_client_table(
    connection: Connection, integration: CompiledIntegration, choice: RouteChoice, at: datetime
) -> Iterator[PreflightRoute]:
    """The variants of a route: with a client table, one per group and policy in it, plus one for other clients."""
    default_route = _simulate_route(connection, integration, choice, at)
    table = client_table_of(integration, choice)
    if table is None:
        yield default_route
        return
    entries_by_target: dict[tuple[int | None, int | None], list[ClientEntry]] = {}
    for entry in table.clients.values():
        entries_by_target.setdefault((entry.group_id, entry.policy_id), []).append(entry)
    clients_by_route: dict[PreflightRoute, list[str]] = {}
    for entries in list(entries_by_target.values())[:MAX_CLIENT_ROUTES]:
        simulated_route = _simulate_route(connection, integration, route_for_client(choice, entries[0], NO_REASON), at)
        # Clients with the same pages are merged into one route, even if the users are paged in different capacities.
        key = replace(simulated_route, pages=tuple(replace(page, reason=NO_REASON) for page in simulated_route.pages))
        clients_by_route.setdefault(key, []).extend(entry.client for entry in entries)
    for simulated_route, clients in clients_by_route.items():
        yield replace(simulated_route, clients=tuple(clients))
    omitted_count = len(entries_by_target) - MAX_CLIENT_ROUTES
    omitted_note = (reasons.CLIENT_ROUTES_OMITTED(count=omitted_count, table=table.name),) if omitted_count > 0 else ()
    yield replace(default_route, clients=(), notes=(*default_route.notes, *omitted_note))


def _route_choice(route: Route) -> RouteChoice:
    return RouteChoice(
        None,
        route.name,
        as_reason(route.name),
        route.policy,
        route.users,
        route.groups,
        route.priority,
        route.action,
        route.client_table,
    )


def _simulate_route(
    connection: Connection, integration: CompiledIntegration, choice: RouteChoice, at: datetime
) -> PreflightRoute:
    policy = policy_for(integration, choice)
    name = policy.name if policy is not None else ""
    if choice.action is RouteAction.LOG_ONLY:
        return PreflightRoute(choice.name, name, (), (reasons.LOG_ONLY_ROUTE(),), is_log_only=True)
    users, groups = users_of(integration, choice), groups_of(integration, choice)
    if policy is None and not users:
        return PreflightRoute(choice.name, "", (), (reasons.NOBODY_CONFIGURED(),))
    mode = PagingMode.DRY_RUN if integration.mode is IntegrationMode.DRY_RUN else PagingMode.PAGE
    version = policy.version_id if policy is not None else None
    simulated = _simulate_run(connection, mode, version, users, groups, at)
    notes = simulated.notes or (() if simulated.pages else (reasons.NOBODY_REACHED(),))
    if simulated.pages and simulated.pages[0].after > LATE_AFTER:
        notes = (reasons.PAGED_LATE(duration=simulated.pages[0].after), *notes)
    return PreflightRoute(choice.name, name, simulated.pages, tuple(notes))


def _simulate_run(
    connection: Connection,
    mode: PagingMode,
    version: int | None,
    users: tuple[int, ...],
    groups: tuple[int, ...],
    at: datetime,
) -> SimulatedRun:
    policy = policy_cache.load_plans(connection, {version}).get(version, RECIPIENTS_ONLY)
    run = begin_run(NEW_ALERT, policy, mode, Priority.CRITICAL, at, recipient_users=users, recipient_groups=groups)
    alert = AlertState(NEW_ALERT, AlertStatus.OPEN, Priority.CRITICAL, at)
    return play(connection, run, alert, TargetFacts(), NO_REASON)


def next_at(hour: int, now: datetime) -> datetime:
    """The next time it is `hour` o'clock in the zone of `now`."""
    today = now.replace(hour=hour, minute=0, second=0, microsecond=0)
    return today if today > now else (today + timedelta(days=1)).replace(hour=hour)


def pages_by_recipient(pages: Sequence[SimulatedPage]) -> dict[str, list[SimulatedPage]]:
    """The pages by recipient, in the order in which each is first paged."""
    pages_by_name: dict[str, list[SimulatedPage]] = {}
    for page in pages:
        pages_by_name.setdefault(page.name, []).append(page)
    return pages_by_name
