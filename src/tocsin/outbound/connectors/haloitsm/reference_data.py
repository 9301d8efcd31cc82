"""Halo's reference lists (statuses, teams, agents, priorities, types, outcomes), stored as rows.

Also updates inbound integrations with them: status names and agent names by id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tocsin.access.audit import AuditActor
from tocsin.catalogue.kinds import family
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection, as_json
from tocsin.core.delivery.circuit_breaker import NeedsAttention
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.reasons import Reason
from tocsin.inbound.admin import commands as inbound
from tocsin.inbound.admin.simple_rules import StatusEffect, action_of_status
from tocsin.inbound.inspect import normalizer_of_version
from tocsin.inbound.models import Integration
from tocsin.outbound.connectors.haloitsm.client import LISTS, HaloSession, id_text
from tocsin.outbound.connectors.haloitsm.connector import KIND
from tocsin.outbound.models import AgentMatch, LookUp, OutboundIntegration
from tocsin.people.models import User

#: The audit actor for integrations changed because of Halo's lists.
READER = AuditActor(None, "Halo's lists", "outbound")

_WORDS = {"critical": "critical", "urgent": "critical", "high": "high", "medium": "medium", "normal": "medium",
          "low": "low"}  # fmt: skip

#: The maximum number of agents in an integration's settings.
_MAX_AGENTS = 1500


@dataclass(frozen=True, slots=True)
class ReferenceEntry:
    """One row of a list."""

    list_name: str
    number: str
    name: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ReferenceLists:
    """All lists of one Halo account."""

    entries: Sequence[ReferenceEntry]

    def has_list(self, list_name: str) -> bool:
        """Whether the list of this name could be read."""
        return any(entry.list_name == list_name for entry in self.entries)

    def find_by_name(self, list_name: str, name: str) -> ReferenceEntry | None:
        """The entry with that name, case-insensitively, or else with that id."""
        folded = name.strip().casefold()
        matches = [entry for entry in self.entries if entry.list_name == list_name and entry.name.casefold() == folded]
        return _prefer_active(matches) or self.find_by_number(list_name, name.strip())

    def find_by_number(self, list_name: str, number: str) -> ReferenceEntry | None:
        return next((e for e in self.entries if e.list_name == list_name and number and e.number == number), None)

    def find_agent_by_email(self, email: str) -> ReferenceEntry | None:
        """The agent with that e-mail address."""
        folded = email.strip().casefold()
        return _prefer_active(
            [e for e in self.entries if e.list_name == "agent" and folded and e.data.get("email") == folded]
        )


def _prefer_active(entries: Sequence[ReferenceEntry]) -> ReferenceEntry | None:
    """The first entry that is active in Halo, or else the first."""
    return min(entries, key=lambda entry: bool(entry.data.get("inactive")), default=None)


def load(connection: Connection, integration_id: int) -> ReferenceLists:
    """The lists as last read."""
    rows = database.rows(
        connection,
        "SELECT list_name, number, name, data FROM outbound_lookup WHERE integration_id = %s ORDER BY list_name, id",
        (integration_id,),
    )
    return ReferenceLists([ReferenceEntry(row["list_name"], row["number"], row["name"], row["data"]) for row in rows])


def read(halo: HaloSession) -> tuple[dict[str, list[ReferenceEntry]], dict[str, Reason]]:
    """Returns every readable list, and by name the error for the others. Raises if none can be read."""
    lists: dict[str, list[ReferenceEntry]] = {}
    problems: dict[str, Reason] = {}
    for list_name in LISTS:
        try:
            rows = halo.list_entries(list_name)
        except Permanent as error:
            if isinstance(error, NeedsAttention):
                raise
            problems[list_name] = error.full_reason
        else:
            lists[list_name] = [entry for row in rows if (entry := _entry(list_name, row)) is not None]
    return lists, problems


def _entry(list_name: str, row: Mapping[str, Any]) -> ReferenceEntry | None:
    number = id_text(row.get("priorityid") if list_name == "priority" else row.get("id"))
    name = str(row.get("name") or row.get("outcome") or row.get("buttonname") or "").strip()
    if not number or not name:
        return None
    data: dict[str, Any] = {}
    if list_name == "agent":
        email = str(row.get("email") or row.get("emailaddress") or row.get("smtp_address") or "").strip().casefold()
        data = {"email": email, **({"inactive": True} if row.get("isdisabled") or row.get("inactive") else {})}
        if isinstance(row.get("teams"), list):
            names = [str(t.get("name") or t.get("team_name") or "") for t in row["teams"] if isinstance(t, Mapping)]
            data["teams"] = [team for team in names if team]
    elif list_name == "priority":
        data = {"sla": id_text(row.get("slaid"))}
    return ReferenceEntry(list_name, number, name[:200], data)


def store(
    connection: Connection, integration_id: int, lists: Mapping[str, Sequence[ReferenceEntry]], now: datetime
) -> bool:
    """Stores the lists that were read and keeps the others. Returns whether any names changed."""
    previous_names = _names(connection, integration_id)
    for list_name, entries in lists.items():
        connection.execute(
            "DELETE FROM outbound_lookup WHERE integration_id = %s AND list_name = %s", (integration_id, list_name)
        )
        unique = {entry.number: {"number": entry.number, "name": entry.name, "data": entry.data} for entry in entries}
        rows = _by_number(entries) if list_name == "priority" else list(unique.values())
        connection.execute(
            "INSERT INTO outbound_lookup (integration_id, list_name, number, name, data, refreshed_at) "
            "SELECT %s, %s, n.number, n.name, n.data, %s "
            "FROM jsonb_to_recordset(%s) AS n(number text, name text, data jsonb)",
            (integration_id, list_name, now, as_json(rows)),
        )
    return _names(connection, integration_id) != previous_names


def _names(connection: Connection, integration_id: int) -> set[tuple[str, str, str]]:
    return {(entry.list_name, entry.number, entry.name) for entry in load(connection, integration_id).entries}


def _by_number(entries: Sequence[ReferenceEntry]) -> list[dict[str, Any]]:
    """Priorities by id; an id with different names under different SLAs keeps all of them in `names`."""
    names: dict[str, list[str]] = {}
    for entry in entries:
        entry_names = names.setdefault(entry.number, [])
        if entry.name not in entry_names:
            entry_names.append(entry.name)
    return [{"number": number, "name": labels[0], "data": {"names": labels}} for number, labels in names.items()]


def publish_to_inbound(integration: OutboundIntegration, now: datetime) -> None:
    """Updates the settings of the inbound integrations that write back through this one.

    Sets the status of each id, the name of each agent (the user's own name if matched), and those priorities whose id
    has the same meaning under every SLA. Entries for ids unknown to Halo are kept.
    """
    rows = list(LookUp.objects.filter(integration=integration))
    statuses = {row.number: row.name for row in rows if row.list_name == "status"}
    agents = _agent_names(integration, [row for row in rows if row.list_name == "agent"])
    priorities = {}
    for row in rows:
        priority_words = {_word(name) for name in row.data.get("names", [])} if row.list_name == "priority" else set()
        if len(priority_words) == 1 and (priority_word := priority_words.pop()):
            priorities[row.number] = priority_word

    def updated_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
        merged = {
            **settings,
            "halo_address": settings.get("halo_address") or integration.settings.get("base_url", ""),
            "statuses": {**settings.get("statuses", {}), **statuses},
            "agents": {**settings.get("agents", {}), **agents},
            "priorities": {**priorities, **settings.get("priorities", {})},
        }
        return {name: value for name, value in merged.items() if value not in ({}, "")}

    for inbound_integration in integration.inbound.filter(kind__in=family(KIND)):
        if updated_settings(inbound_integration.settings) == inbound_integration.settings:
            continue
        try:
            with settings_store.exclusive(inbound_integration):
                spec = inbound.integration_spec(inbound_integration)
                updated_spec = {**spec, "settings": updated_settings(spec.get("settings") or {})}
                inbound.save_integration(updated_spec, existing=inbound_integration, actor=READER, now=now)
        except Rejected:
            # The integration has another problem, which its own view shows.
            continue


def statuses_by_effect(integration: Integration) -> dict[StatusEffect, list[str]]:
    """Returns the names of the connected Halo's statuses by what each does to an alert, in Halo's order; empty if no
    Halo is connected, its statuses have not been read, or the integration's rules do not compile."""
    names = list(
        LookUp.objects.filter(integration=integration.outbound_id, list_name="status")
        .order_by("pk")
        .values_list("name", flat=True)
    )
    try:
        normalizer = normalizer_of_version(integration, integration.current_version) if names else None
    except Rejected:
        return {}
    if normalizer is None:
        return {}
    by_effect: dict[StatusEffect, list[str]] = {effect: [] for effect in StatusEffect}
    for name in dict.fromkeys(names):
        by_effect[action_of_status(normalizer, name)].append(name)
    return by_effect


def _word(name: str) -> str:
    folded = name.casefold()
    return next((priority_word for text, priority_word in _WORDS.items() if text in folded), "")


def _agent_names(integration: OutboundIntegration, rows: Sequence[LookUp]) -> dict[str, str]:
    users = {user.email.casefold(): user.display_name for user in User.objects.filter(is_active=True) if user.email}
    matches = AgentMatch.objects.filter(integration=integration).select_related("user")
    matched_names = {match.number: match.user.display_name for match in matches}
    agent_names = {
        row.number: matched_names.get(row.number) or users.get(row.data.get("email", "")) or row.name for row in rows
    }
    return dict(list(agent_names.items())[:_MAX_AGENTS])


def numbered_priority(number: object) -> str:
    """A priority of which only the number is known, as the integration's mapping shows it."""
    return f"Priority {number}"
