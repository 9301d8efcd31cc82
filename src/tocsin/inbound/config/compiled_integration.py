"""An integration as the hot path uses it: compiled once per configuration version, references as ids. Pure data."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial

from tocsin.alerts.commands import Actor
from tocsin.alerts.lifecycle import TicketAgent
from tocsin.alerts.states import ActorKind, Priority
from tocsin.core.config.environment import Network
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, joined, sentence
from tocsin.inbound.config.normalizer import NormalizedEvent, Normalizer
from tocsin.inbound.config.rules import RouteChoice, RouteReference
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.maintenance import CompiledWindow

# ---------- credentials: what a sender needs beyond the webhook URL

#: Request headers stored with a message.
STORED_HEADERS = frozenset({
    "content-type", "content-length", "user-agent", "x-request-id", "x-forwarded-for", "x-halo-event", "x-github-event",
    "x-gitlab-event", "date",
})  # fmt: skip

MAX_HEADER = 300

#: A signed timestamp further from now is rejected as a replay.
MAX_AGE = timedelta(minutes=5)

#: The name in the log for the check of the sender's IP address.
ADDRESS = "sender's address"

#: A sender's own signature scheme: (body, headers, secret, now) → whether the signature is valid.
type SignatureCheck = Callable[[bytes, Mapping[str, str], str, datetime], bool]


class CredentialStatus(StrEnum):
    VALID = "present, valid"
    INVALID = "present, not valid"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials required, each only if set. Secrets are kept out of `repr`."""

    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    header: str = ""
    header_value: str = field(default="", repr=False)
    signature_header: str = ""
    signature_secret: str = field(default="", repr=False)
    #: The header with the timestamp that the signature covers; "": it covers the body alone, so replays are possible.
    timestamp_header: str = ""
    #: Not a sender's credential: the mailbox to poll for the integration, and its password.
    mailbox: str = ""
    mailbox_password: str = field(default="", repr=False)
    #: Networks that requests may come from; (): any.
    networks: tuple[Network, ...] = ()

    @property
    def are_required(self) -> bool:
        """Whether anything besides the webhook URL is required."""
        return bool(self.password or self.username or self.header or self.signature_header or self.networks)

    def check(
        self,
        headers: Mapping[str, str],
        body: bytes,
        *,
        address: str | None = None,
        is_signed: SignatureCheck | None = None,
        now: datetime | None = None,
    ) -> dict[str, CredentialStatus]:
        """Returns the result for each required credential by lower-case header name. All must be VALID.

        `address` is the sender's IP address. `is_signed`, called with `now`, replaces HMAC-SHA256 over the body. A
        signed timestamp must be at most MAX_AGE from `now`.
        """
        results: dict[str, CredentialStatus] = {}
        if self.username or self.password:
            results["authorization"] = self._basic(headers.get("authorization"))
        if self.header:
            name = self.header.lower()
            value = headers.get(name)
            results[name] = (
                CredentialStatus.MISSING if value is None else _status(_is_equal(value.strip(), self.header_value))
            )
        if self.signature_header:
            name = self.signature_header.lower()
            if is_signed is not None and now is not None and name in headers:
                results[name] = _status(is_signed(body, headers, self.signature_secret, now))
            else:
                results[name] = self._signature(headers.get(name), body, headers)
            if self.timestamp_header:
                name = self.timestamp_header.lower()
                results[name] = _check_timestamp(headers.get(name), now)
        if self.networks:
            results[ADDRESS] = _status(_is_in(address, self.networks))
        return results

    def _basic(self, value: str | None) -> CredentialStatus:
        """Checks Basic auth (RFC 7617): "Basic " and base64 of user:password in UTF-8."""
        if value is None:
            return CredentialStatus.MISSING
        scheme, _, encoded = value.partition(" ")
        try:
            decoded = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            return CredentialStatus.INVALID
        expected = f"{self.username}:{self.password}".encode()
        return _status(scheme.lower() == "basic" and hmac.compare_digest(decoded, expected))

    def _signature(self, value: str | None, body: bytes, headers: Mapping[str, str]) -> CredentialStatus:
        """Checks HMAC-SHA256 of the body, in hex or base64, with an optional `sha256=` prefix.

        With a timestamp header, the signed text is `TIME:BODY` as in Grafana, or `TIME.BODY` as in Stripe and Standard
        Webhooks:
        https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/
        """
        if value is None:
            return CredentialStatus.MISSING
        signed = [body]
        if self.timestamp_header:
            time = headers.get(self.timestamp_header.lower(), "").encode("latin-1", "replace")
            signed = [time + separator + body for separator in (b":", b".")]
        signature = value.strip().removeprefix("sha256=")
        digests = [hmac.new(self.signature_secret.encode(), text, hashlib.sha256).digest() for text in signed]
        return _status(
            any(
                _is_equal(signature.lower(), digest.hex()) or _is_equal(signature, base64.b64encode(digest).decode())
                for digest in digests
            )
        )


def _status(is_valid: bool) -> CredentialStatus:
    return CredentialStatus.VALID if is_valid else CredentialStatus.INVALID


def stored_headers(headers: Mapping[str, str], results: Mapping[str, CredentialStatus]) -> dict[str, str]:
    """Returns the headers to store: those of the allow-list, and for credentials only the result of their check."""
    stored = {
        name: value[:MAX_HEADER] for name, value in headers.items() if name in STORED_HEADERS and name not in results
    }
    return {**stored, **{name: result.value for name, result in results.items()}}


def _check_timestamp(value: str | None, now: datetime | None) -> CredentialStatus:
    """Checks that a timestamp (Unix seconds or milliseconds, or ISO 8601 with zone) is within MAX_AGE of `now`."""
    if value is None:
        return CredentialStatus.MISSING
    at = _moment(value.strip())
    return _status(at is not None and now is not None and abs(now - at) <= MAX_AGE)


def _moment(text: str) -> datetime | None:
    try:
        if text.isascii() and text.isdecimal() and len(text) <= 13:
            return datetime.fromtimestamp(int(text) / (1000 if len(text) == 13 else 1), UTC)
        at = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        return None
    return at if at.tzinfo is not None else None


def _is_in(address: str | None, networks: tuple[Network, ...]) -> bool:
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed.version == network.version and parsed in network for network in networks)


def _is_equal(value: str, expected: str) -> bool:
    return hmac.compare_digest(value.encode("utf-8", "replace"), expected.encode())


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
class ReferenceNames:
    """The names of all objects that a definition may refer to, by id."""

    policies: Mapping[int, str] = field(default_factory=dict)
    users: Mapping[int, str] = field(default_factory=dict)
    groups: Mapping[int, str] = field(default_factory=dict)
    hours: Mapping[int, str] = field(default_factory=dict)
    outbound: Mapping[int, str] = field(default_factory=dict)
    tables: Mapping[int, str] = field(default_factory=dict)


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
    #: Whether support hours are open at a moment, by id and by casefolded name.
    hours: Mapping[RouteReference, Callable[[datetime], bool]] = field(default_factory=dict)
    #: When they are open next, from a moment on; None: never.
    next_hours: Mapping[RouteReference, Callable[[datetime], datetime | None]] = field(default_factory=dict)
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
    windows: tuple[CompiledWindow, ...] = ()

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
        hours = self.directory.hours.get(_folded(reference))
        return hours is not None and hours(now)

    def next_hours(self, reference: RouteReference, now: datetime) -> datetime | None:
        """Returns when the support hours are open next, from `now` on; None for deleted ones, so that nothing waits."""
        next_opening = self.directory.next_hours.get(_folded(reference))
        return next_opening(now) if next_opening is not None else None


# ---------- client routing

#: The mapped fields that identify the client: its name, or its id at the source.
_FIELDS = ("client", "client_id")


def apply_client_table(integration: CompiledIntegration, route: RouteChoice, event: NormalizedEvent) -> RouteChoice:
    """Returns the route with the group and policy that its client table has for the message's client.

    The route stays unchanged for a client that is not in the table, and the reason says so.
    """
    table = client_table_of(integration, route)
    if table is None:
        is_deleted = route.client_table is not None
        return (
            replace(route, reason=joined(route.reason, sentence("its client table was deleted")))
            if is_deleted
            else route
        )
    client_names = [text for field in _FIELDS if (text := event.mapped.text(field))]
    for text in client_names:
        entry = table.clients.get(text.casefold())
        if entry is not None:
            why = sentence("{client} is in client table {table}", client=text, table=table.name)
            return route_for_client(route, entry, why)
    if client_names:
        why = sentence("client {client} is not in client table {table}", client=client_names[0], table=table.name)
    else:
        why = sentence("a message without a client is not in client table {table}", table=table.name)
    return replace(route, reason=joined(route.reason, why))


def client_table_of(integration: CompiledIntegration, route: RouteChoice) -> ClientMap | None:
    """Returns the route's client table; None if the route has none or it was deleted."""
    if route.client_table is None:
        return None
    return integration.directory.client_tables.get(_folded(route.client_table))


def _folded(reference: RouteReference) -> RouteReference:
    return reference.casefold() if isinstance(reference, str) else reference


def route_for_client(route: RouteChoice, entry: ClientEntry, reason: Reason) -> RouteChoice:
    """Returns the route with the group and policy of the client's entry."""
    return replace(
        route,
        reason=joined(route.reason, reason),
        groups=route.groups if entry.group_id is None else (entry.group_id,),
        policy=route.policy if entry.policy_id is None else entry.policy_id,
    )
