"""An integration as the hot path uses it: compiled once per configuration version, references as ids. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Protocol

from tocsin.alerts.commands import Actor
from tocsin.alerts.source import TicketAgent
from tocsin.alerts.states import ActorKind, Priority
from tocsin.core.errors import Rejected
from tocsin.inbound.config.credentials import Credentials
from tocsin.inbound.config.normalizer import NormalizedEvent, Normalizer
from tocsin.inbound.config.routes import RouteReference
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.maintenance.windows import IntegrationWindow


class IsSupportHours(Protocol):
    """Returns whether the support hours are open at `now`."""

    def __call__(self, now: datetime) -> bool: ...


class NextSupportHours(Protocol):
    """Returns when the support hours are open next, from `now` on; None: never."""

    def __call__(self, now: datetime) -> datetime | None: ...


@dataclass(frozen=True, slots=True)
class PolicyEntry:
    """What opening an alert needs to know about an escalation policy."""

    name: str
    version_id: int
    default_priority: Priority


@dataclass(frozen=True, slots=True)
class ClientEntry:
    """The group and policy responsible for a client; None keeps the route's."""

    group_id: int | None = None
    policy_id: int | None = None
    #: The client's name as spelled in the table.
    client: str = ""


@dataclass(frozen=True, slots=True)
class ClientMap:
    """A client table: entries by casefolded client."""

    name: str
    clients: Mapping[str, ClientEntry] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReferenceDirectory:
    """The objects that messages and routes may refer to; shared by all integrations of a configuration version."""

    policies: Mapping[int, PolicyEntry] = field(default_factory=dict)
    #: Users by casefolded e-mail, username and name: (id, display name).
    users: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    #: Groups by casefolded name.
    groups: Mapping[str, int] = field(default_factory=dict)
    #: Policies by casefolded name.
    policy_ids: Mapping[str, int] = field(default_factory=dict)
    #: Support hours by id and by casefolded name.
    hours: Mapping[RouteReference, IsSupportHours] = field(default_factory=dict)
    next_hours: Mapping[RouteReference, NextSupportHours] = field(default_factory=dict)
    #: Client tables by id and by casefolded name.
    client_tables: Mapping[RouteReference, ClientMap] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CompiledIntegration:
    """One inbound integration, compiled and ready to decide about messages."""

    id: int
    name: str
    #: The sending system: integrations with the same source share alerts.
    source: str
    mode: IntegrationMode
    normalizer: Normalizer
    version_id: int | None
    settings: Mapping[str, object]
    policy_id: int | None
    recipient_users: tuple[int, ...]
    recipient_groups: tuple[int, ...]
    credentials: Credentials
    directory: ReferenceDirectory
    #: The outbound integration that writes actions back and fetches tickets.
    outbound_id: int | None = None
    #: Why the configuration cannot be used. Nothing is parsed then, and every message is stored as Mapping Failed.
    problem: Rejected | None = None
    #: The dedup key namespace, if it differs from the source.
    dedup_namespace: str = ""
    #: The maintenance windows that may apply to its alerts.
    windows: tuple[IntegrationWindow, ...] = ()

    # Computed from the fields above, because each message uses them.

    #: Whether noise reduction or a maintenance window may affect an alert before it opens.
    has_noise_reduction: bool = field(init=False)
    #: The sender's name on the timeline, and as an actor.
    display_source: str = field(init=False)
    actor: Actor = field(init=False)
    #: The first part of the integration's dedup keys.
    key_source: str = field(init=False)

    def __post_init__(self) -> None:
        set_field = partial(object.__setattr__, self)
        set_field("has_noise_reduction", bool(self.windows) or self.normalizer.noise_settings is not None)
        set_field("display_source", self.source or self.name)
        set_field("actor", Actor(ActorKind.INTEGRATION, self.display_source))
        set_field("key_source", self.dedup_namespace or self.source)

    def ticket_agent(self, event: NormalizedEvent) -> TicketAgent:
        """Returns the agent to whom the ticket is assigned, according to the message."""
        if event.mapped.is_nobody("agent"):
            # Halo's "Unassigned" agent may have an e-mail address.
            return TicketAgent()
        text = event.mapped.text
        return self.find_agent(text("agent") or "", text("assignee") or "", text("agent_id") or "")

    def find_agent(self, name: str, email: str = "", agent_id: str = "") -> TicketAgent:
        """Returns the agent that a source calls `name`, as a Tocsin user if possible: by e-mail address, else by the
        name that the settings map the agent's number to (a user may have chosen it), else by name."""
        text = name or email
        if not text:
            return TicketAgent()
        agents = self.settings.get("agents")
        mapped_name = agents.get(agent_id, "") if isinstance(agents, Mapping) else ""
        for identifier in (email if "@" in email else "", mapped_name, text):
            if user := self.directory.users.get(str(identifier).casefold()):
                return TicketAgent(user[1], user[0], user[1])
        return TicketAgent(text)

    def dedup_key(self, event: NormalizedEvent) -> str | None:
        """Returns the key that identifies the message's problem; None: each message is a problem of its own."""
        if event.dedup_key:
            return f"{self.key_source}\x1f{event.dedup_key}"
        if event.source_id is None:
            return None
        return f"{self.key_source}\x1f{event.source_name}\x1f{event.source_id}"

    def in_hours(self, reference: RouteReference, now: datetime) -> bool:
        """Returns whether a route's support hours are open at `now`. Deleted support hours are never open."""
        hours = self.directory.hours.get(reference.casefold() if isinstance(reference, str) else reference)
        return hours is not None and hours(now)

    def next_hours(self, reference: RouteReference, now: datetime) -> datetime | None:
        """Returns when the support hours are open next, from `now` on; None for deleted ones, so that nothing waits."""
        next_opening = self.directory.next_hours.get(reference.casefold() if isinstance(reference, str) else reference)
        return next_opening(now) if next_opening is not None else None
