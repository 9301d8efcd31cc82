"""An integration as the hot path knows it: compiled once a configuration version, everything by id. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from tocsin.alerts.source import TicketAgent
from tocsin.alerts.states import Priority
from tocsin.core.errors import Rejected
from tocsin.inbound.config.credentials import Credentials
from tocsin.inbound.config.normalizer import NormalizedEvent, Normalizer
from tocsin.inbound.config.routes import RouteReference
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.maintenance.windows import IntegrationWindow


class IsSupportHours(Protocol):
    """Support hours: whether they are at an instant."""

    def __call__(self, now: datetime) -> bool: ...


class NextSupportHours(Protocol):
    """Support hours: when they are next, from an instant on; None: never."""

    def __call__(self, now: datetime) -> datetime | None: ...


@dataclass(frozen=True, slots=True)
class PolicyEntry:
    """What an opening needs of an escalation policy."""

    name: str
    version_id: int
    default_priority: Priority


@dataclass(frozen=True, slots=True)
class ClientEntry:
    """Who answers for a client: None leaves what the route says."""

    group_id: int | None = None
    policy_id: int | None = None
    #: The client as the table writes it.
    client: str = ""


@dataclass(frozen=True, slots=True)
class ClientMap:
    """A client table: by client, folded."""

    name: str
    clients: Mapping[str, ClientEntry] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReferenceDirectory:
    """The names that messages and routes may refer to; shared by all doors of one configuration version."""

    policies: Mapping[int, PolicyEntry] = field(default_factory=dict)
    #: Users by e-mail, username and name, folded: (id, name to show).
    users: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    #: Groups by folded name.
    groups: Mapping[str, int] = field(default_factory=dict)
    #: Policies by folded name.
    policy_ids: Mapping[str, int] = field(default_factory=dict)
    #: Support hours by id and by folded name.
    hours: Mapping[RouteReference, IsSupportHours] = field(default_factory=dict)
    next_hours: Mapping[RouteReference, NextSupportHours] = field(default_factory=dict)
    #: Client tables by id and by folded name.
    client_tables: Mapping[RouteReference, ClientMap] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CompiledIntegration:
    """One inbound integration, ready to decide."""

    id: int
    name: str
    #: The sending system: integrations that share it share alerts.
    source: str
    mode: IntegrationMode
    reader: Normalizer
    version_id: int | None
    settings: Mapping[str, object]
    policy_id: int | None
    recipient_users: tuple[int, ...]
    recipient_groups: tuple[int, ...]
    credentials: Credentials
    directory: ReferenceDirectory
    #: The outbound integration by which what people do is written back, and tickets are read again.
    outbound_id: int | None = None
    #: Why its configuration cannot be used: then nothing is read, and every message is kept as Mapping Failed.
    problem: Rejected | None = None
    #: What stands for the source in dedup keys, where it is another than that.
    dedup_namespace: str = ""
    #: The maintenance windows that may be about its alerts.
    windows: tuple[IntegrationWindow, ...] = ()

    @property
    def is_shaped(self) -> bool:
        """Whether an alert that would open is asked about first."""
        return bool(self.windows) or self.reader.shaping is not None

    @property
    def shown_source(self) -> str:
        """How the timeline calls the sender."""
        return self.source or self.name

    @property
    def key_source(self) -> str:
        """What its dedup keys begin with."""
        return self.dedup_namespace or self.source

    def agent(self, reading: NormalizedEvent) -> TicketAgent:
        """Who has the ticket, as the message says."""
        if reading.mapped.says_nobody("agent"):
            # Halo's "Unassigned" may have an address.
            return TicketAgent()
        text = reading.mapped.text
        return self.agent_named(text("agent") or "", text("assignee") or "", text("agent_id") or "")

    def agent_named(self, name: str, email: str = "", number: str = "") -> TicketAgent:
        """The agent that a source calls `name`: the user of that e-mail address, else of the name that the number
        stands for in the settings, which may have been chosen by hand, else of that name."""
        text = name or email
        if not text:
            return TicketAgent()
        agents = self.settings.get("agents")
        known = agents.get(number, "") if isinstance(agents, Mapping) else ""
        for said in (email if "@" in email else "", known, text):
            if found := self.directory.users.get(str(said).casefold()):
                return TicketAgent(found[1], found[0], found[1])
        return TicketAgent(text)

    def dedup_key(self, reading: NormalizedEvent) -> str | None:
        """What makes a message the same problem as another; None: it is a problem of its own."""
        if reading.dedup_key:
            return f"{self.key_source}\x1f{reading.dedup_key}"
        if reading.source_id is None:
            return None
        return f"{self.key_source}\x1f{reading.source_name}\x1f{reading.source_id}"

    def in_hours(self, reference: RouteReference, now: datetime) -> bool:
        """Whether the support hours that a route names are now. Ones that are gone are never."""
        hours = self.directory.hours.get(reference.casefold() if isinstance(reference, str) else reference)
        return hours is not None and hours(now)

    def next_hours(self, reference: RouteReference, now: datetime) -> datetime | None:
        """When those support hours are next, from `now` on. Ones that are gone are never: then nothing is awaited."""
        found = self.directory.next_hours.get(reference.casefold() if isinstance(reference, str) else reference)
        return found(now) if found is not None else None
