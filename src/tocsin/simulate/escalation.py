"""Simulates an escalation to its end if nobody responds: its pages, their reasons, and its timeline. For a policy, a
manual alert, and every route of the integrations.

Uses the engine and page planner of the live path. Sends and stores nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from tocsin.alerts.commands import AlertState, NewEvent, PagingMode
from tocsin.alerts.states import AlertStatus, EventKind, Priority
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import NO_REASON, Person, Reason, Term, Text, as_reason, sentence
from tocsin.escalation import commands
from tocsin.escalation.commands import ManualAlert
from tocsin.escalation.explain import forecast_run
from tocsin.escalation.policy import RECIPIENTS_ONLY, CompiledPolicy
from tocsin.escalation.reasons import GROUP_CONTACT
from tocsin.escalation.run import run_store
from tocsin.escalation.run.run_state import RunDecision, RunState, begin_run
from tocsin.escalation.run.target_resolution import TargetContext, TargetFacts
from tocsin.inbound.config.compiled_integration import (
    ClientEntry,
    CompiledIntegration,
    client_table_of,
    route_for_client,
)
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.config.rules import RouteAction, RouteChoice
from tocsin.inbound.deciding.alert_creation import groups_of, policy_for, users_of
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.models import Integration
from tocsin.notify import pause
from tocsin.notify.pages import load_recipients, plan_pages

#: The maximum number of decisions shown; a longer simulation is truncated with a note.
MAX_STEPS_SHOWN = 200

#: The longest time for which a waiting step's on-call data is reused.
_MAX_CACHE_AGE = timedelta(days=1)

#: A placeholder for the id of a new alert.
NEW_ALERT = 0


NO_RECIPIENTS = Text("It pages no one: it has neither an escalation policy nor recipient users.")
CLIENT_ROUTES_OMITTED = Text(
    "{count} more route of client table {table} was not checked.",
    "{count} more routes of client table {table} were not checked.",
)


@dataclass(frozen=True, slots=True)
class SimulatedPage:
    """One page that would be sent. `problem` says why it could not be."""

    at: datetime
    after: timedelta
    #: None: a group contact, named by `name`.
    user_id: int | None
    name: str
    label: str
    channel: str
    address: str
    reason: Reason
    problem: Reason = NO_REASON


@dataclass(frozen=True, slots=True)
class SimulatedStep:
    """An entry of the alert's timeline; for the firing of a step (`step` is not 0), with its pages."""

    at: datetime
    after: timedelta
    reason: Reason
    step: int = 0
    #: The users and contacts paged: (name, capacity).
    people: tuple[tuple[str, Reason], ...] = ()
    pages: tuple[SimulatedPage, ...] = ()
    #: Whether the step had nobody to page although it fired.
    has_no_targets: bool = False


@dataclass(frozen=True, slots=True)
class SimulatedRun:
    pages: tuple[SimulatedPage, ...]
    timeline: tuple[SimulatedStep, ...]
    notes: tuple[Reason, ...]
    #: The entries of the timeline that are events of the escalation.
    steps: tuple[SimulatedStep, ...] = ()


def play(connection: Connection, run: RunState, alert: AlertState, facts: TargetFacts, opening: Reason) -> SimulatedRun:
    """Simulates `run` from its start. `opening` is the first entry of the timeline."""
    at = run.started_at
    run_forecast = forecast_run(run, alert, _contexts(connection, facts), max_decisions=MAX_STEPS_SHOWN)
    timeline = [SimulatedStep(at, timedelta(), opening)]
    stages: list[SimulatedStep] = []
    for moment, decision in run_forecast.decisions:
        planned, unreachable = _pages(connection, decision, at)
        fired = [_stage(event, decision, planned, at) for event in decision.events]
        stages += fired
        timeline += [*fired, *(SimulatedStep(moment, moment - at, reason) for reason in unreachable)]
    pages = sorted((page for stage in stages for page in stage.pages), key=lambda page: page.at)
    notes = [*_notes(connection, run, run_forecast.truncation_reason, at), *_rate_limit_notes(connection, pages)]
    return SimulatedRun(tuple(pages), tuple(timeline), tuple(notes), tuple(stages))


def _contexts(connection: Connection, facts: TargetFacts) -> Callable[[RunState, datetime], TargetContext]:
    """Returns what loads the on-call data for a run at a moment; moments must be ascending.

    A waiting step rechecks every minute; its data is loaded once for as long as nobody's shift starts or ends.
    """
    cached: tuple[CompiledPolicy, datetime, TargetContext] | None = None

    def load(run: RunState, moment: datetime) -> TargetContext:
        nonlocal cached
        is_waiting = run.progress.is_waiting
        if is_waiting and cached is not None and cached[0] is run.plan and moment < cached[1]:
            return cached[2]
        context = run_store.load_target_context(connection, [run], moment, {NEW_ALERT: facts})
        if is_waiting:
            cached = run.plan, run_store.valid_until(connection, run, moment, _MAX_CACHE_AGE), context
        return context

    return load


def _stage(
    event: NewEvent, decision: RunDecision, pages: dict[tuple[int, int], list[SimulatedPage]], at: datetime
) -> SimulatedStep:
    after = event.at - at
    if event.kind not in (EventKind.STEP_FIRED, EventKind.STEP_EMPTY) or "step" not in event.data:
        return SimulatedStep(event.at, after, as_reason(event.reason))
    step_and_pass = (int(str(event.data["step"])), int(str(event.data["pass"])))
    started = [s for s in (*decision.pages, *decision.dry_run_pages) if (s.step, s.loop_number) == step_and_pass]
    people = [(s.target.name, s.target.capacity) for s in started]
    people += [(c.label, GROUP_CONTACT()) for c in decision.contact_pages if (c.step, c.loop_number) == step_and_pass]
    # A step that fires twice in one decision has all its pages with the first event.
    has_no_targets = event.kind is EventKind.STEP_EMPTY and not (event.data.get("left_out") or event.data.get("busy"))
    planned = tuple(sorted(pages.pop(step_and_pass, ()), key=lambda page: page.at))
    reason = as_reason(event.reason)
    return SimulatedStep(event.at, after, reason, step_and_pass[0], tuple(people), planned, has_no_targets)


def _pages(
    connection: Connection, decision: RunDecision, at: datetime
) -> tuple[dict[tuple[int, int], list[SimulatedPage]], list[Reason]]:
    """The pages of a decision by step and pass; in dry run, those it would have sent."""
    people = (*decision.pages, *decision.dry_run_pages)
    planned = plan_pages(connection, run_store.page_requests(None, replace(decision, pages=people)))
    names = {s.target.user_id: s.target.name for s in people}
    labels = {c.contact_id: c.label for c in decision.contact_pages}
    pages_by_step: dict[tuple[int, int], list[SimulatedPage]] = {}
    for page in planned.pages:
        request = page.request
        name = names.get(request.user_id or 0) or labels.get(request.group_contact_id or 0, page.label)
        pages_by_step.setdefault((request.data.get("step", 0), request.data.get("pass", 0)), []).append(
            SimulatedPage(
                at=page.due_at,
                after=page.due_at - at,
                user_id=request.user_id,
                name=name,
                label=page.label,
                channel=page.channel,
                address=page.address,
                reason=page.reason,
                problem=page.problem,
            )
        )
    return pages_by_step, [entry.reason for entry in planned.unreachable]


def _notes(connection: Connection, run: RunState, cut: Reason, at: datetime) -> Iterable[Reason]:
    if run.mode is PagingMode.DRY_RUN:
        yield sentence(
            "The integration is in dry-run mode, so no one would be paged. Otherwise, it would send these pages."
        )
    if cut:
        yield cut
    active_pause = pause.current_pause(connection, at)
    if active_pause is not None:
        yield active_pause.wait_reason


def _rate_limit_notes(connection: Connection, pages: Sequence[SimulatedPage]) -> Iterable[Reason]:
    """Notes about users whose hourly limit these pages alone would exceed."""
    people = load_recipients(connection, {page.user_id for page in pages if page.user_id is not None})
    for person in people.values():
        by_address: dict[str, list[datetime]] = {}
        for page in pages:
            if page.user_id == person.id and not page.problem:
                by_address.setdefault(page.address, []).append(page.at)
        limit = person.most_per_hour
        if limit and any(
            later - first < timedelta(hours=1)
            for times in by_address.values()
            for first, later in zip(times, times[limit:], strict=False)
        ):
            yield sentence(
                "{user} wants at most {count} message an hour at one address: those beyond are sent together, as one, "
                "when that hour is over. Critical alerts are never held back by it.",
                "{user} wants at most {count} messages an hour at one address: those beyond are sent together, as one, "
                "when that hour is over. Critical alerts are never held back by it.",
                user=Person(person.name, person.id),
                count=limit,
            )


# ---------- policy
# Simulates a policy for an alert created at a given time if nobody responds, for the web and the API.
# Sends and stores nothing.


@dataclass(frozen=True, slots=True)
class HypotheticalAlert:
    """The simulated alert: recipients, priority, and the data for conditions."""

    recipient_users: tuple[int, ...] = ()
    recipient_groups: tuple[int, ...] = ()
    priority: Priority | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    #: The assignee of the ticket, as the source would name it.
    source_agent: str = ""


def simulate(policy: CompiledPolicy, hypothetical: HypotheticalAlert, at: datetime) -> SimulatedRun:
    """The pages, timeline and stages of an alert created at `at`."""
    priority = hypothetical.priority or policy.default_priority
    run = begin_run(
        NEW_ALERT,
        policy,
        PagingMode.PAGE,
        priority,
        at,
        recipient_users=hypothetical.recipient_users,
        recipient_groups=hypothetical.recipient_groups,
    )
    alert = AlertState(NEW_ALERT, AlertStatus.OPEN, priority, at)
    with database.transaction() as connection:
        facts = run_store.build_facts(connection, hypothetical.tags, hypothetical.source_agent)
        return play(connection, run, alert, facts, sentence("An alert opens, {priority}.", priority=Term(priority)))


# ---------- manual alert


def preview(manual_alert: ManualAlert, at: datetime) -> SimulatedRun:
    """The pages and timeline if it were created at `at` and nobody responded."""
    if manual_alert.policy is None and not manual_alert.user_ids:
        return SimulatedRun((), (), (NO_RECIPIENTS(),))
    policy = commands.plan_of(manual_alert.policy) if manual_alert.policy is not None else RECIPIENTS_ONLY
    return simulate(
        policy,
        HypotheticalAlert(manual_alert.user_ids, manual_alert.group_ids, manual_alert.priority, manual_alert.tags),
        at,
    )


# ---------- preflight
# Lists whom an alert, by default a critical one, would page at a given time if nobody responds, for each integration
# and route. Uses the engine, schedules and page planner of the live path. Sends and stores nothing.


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

    def for_client(self, client: str) -> PreflightResult:
        """Returns the routes that an alert of this client may take: of a client table, the one that names the client,
        else the one of the others."""
        name = client.casefold()
        naming = {route for route in self.routes if name in (known.casefold() for known in route.clients or ())}
        tables = {route.route for route in naming}
        taken = (
            route
            for route in self.routes
            if route.clients is None or route in naming or (not route.clients and route.route not in tables)
        )
        return replace(self, routes=tuple(taken))


def preflight(
    at: datetime,
    registry: IntegrationRegistry | None = None,
    *,
    priority: Priority = Priority.CRITICAL,
    only: Integration | None = None,
) -> list[PreflightResult]:
    """Simulates a critical alert at `at` for every enabled integration, or `only` one, sorted by name."""
    loaded_registry = registry or IntegrationRegistry()
    loaded_registry.refresh()
    results = []
    for one in sorted(loaded_registry.get_all().values(), key=lambda integration: integration.name.casefold()):
        if one.mode is not IntegrationMode.DISABLED and (only is None or only.pk == one.id):
            # One transaction each, so that none is long, however many integrations there are.
            with database.transaction() as connection:
                routes = tuple(_simulate_routes(connection, one, at, priority))
            results.append(PreflightResult(one.id, one.name, one.mode, routes))
    return results


def _simulate_routes(
    connection: Connection, integration: CompiledIntegration, at: datetime, priority: Priority
) -> Iterator[PreflightRoute]:
    if integration.problem is not None:
        problem = sentence("Its configuration cannot be used: {problem}", problem=integration.problem.reason)
        yield PreflightRoute("", "", (), (problem,))
        return
    for route in integration.normalizer.routes:
        # Its conditions on the message cannot be known.
        if route.is_active(lambda hours: integration.in_hours(hours, at)):
            choice = replace(route.choice, index=None, reason=as_reason(route.choice.name))
            yield from _simulate_client_table(connection, integration, choice, at, priority)
    yield _simulate_route(connection, integration, _INTEGRATION_DEFAULT, at, priority)


def _simulate_client_table(
    connection: Connection, integration: CompiledIntegration, choice: RouteChoice, at: datetime, priority: Priority
) -> Iterator[PreflightRoute]:
    """The variants of a route: with a client table, one per group and policy in it, plus one for other clients."""
    default_route = _simulate_route(connection, integration, choice, at, priority)
    table = client_table_of(integration, choice)
    if table is None:
        yield default_route
        return
    entries_by_target: dict[tuple[int | None, int | None], list[ClientEntry]] = {}
    for entry in table.clients.values():
        entries_by_target.setdefault((entry.group_id, entry.policy_id), []).append(entry)
    clients_by_route: dict[PreflightRoute, list[str]] = {}
    for entries in list(entries_by_target.values())[:MAX_CLIENT_ROUTES]:
        client_choice = route_for_client(choice, entries[0], NO_REASON)
        simulated_route = _simulate_route(connection, integration, client_choice, at, priority)
        # Clients with the same pages are merged into one route, even if the users are paged in different capacities.
        key = replace(simulated_route, pages=tuple(replace(page, reason=NO_REASON) for page in simulated_route.pages))
        clients_by_route.setdefault(key, []).extend(entry.client for entry in entries)
    for simulated_route, clients in clients_by_route.items():
        yield replace(simulated_route, clients=tuple(clients))
    notes, omitted_count = default_route.notes, len(entries_by_target) - MAX_CLIENT_ROUTES
    if omitted_count > 0:
        notes = (*notes, CLIENT_ROUTES_OMITTED(count=omitted_count, table=table.name))
    yield replace(default_route, clients=(), notes=notes)


def _simulate_route(
    connection: Connection, integration: CompiledIntegration, choice: RouteChoice, at: datetime, priority: Priority
) -> PreflightRoute:
    policy = policy_for(integration, choice)
    name = policy.name if policy is not None else ""
    if choice.action is RouteAction.LOG_ONLY:
        note = sentence("The route is log only: no one is paged.")
        return PreflightRoute(choice.name, name, (), (note,), is_log_only=True)
    users, groups = users_of(integration, choice), groups_of(integration, choice)
    if policy is None and not users:
        note = sentence("No one is paged: no policy or recipient user is configured.")
        return PreflightRoute(choice.name, "", (), (note,))
    mode = PagingMode.DRY_RUN if integration.mode is IntegrationMode.DRY_RUN else PagingMode.PAGE
    version = policy.version_id if policy is not None else None
    plan = run_store.load_plans(connection, {version}).get(version, RECIPIENTS_ONLY)
    run = begin_run(NEW_ALERT, plan, mode, priority, at, recipient_users=users, recipient_groups=groups)
    alert = AlertState(NEW_ALERT, AlertStatus.OPEN, priority, at)
    simulated = play(connection, run, alert, TargetFacts(), NO_REASON)
    notes = simulated.notes or (() if simulated.pages else (sentence("No one would be reached."),))
    if simulated.pages and simulated.pages[0].after > LATE_AFTER:
        notes = (sentence("No one is paged for {duration}.", duration=simulated.pages[0].after), *notes)
    return PreflightRoute(choice.name, name, simulated.pages, tuple(notes))


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
