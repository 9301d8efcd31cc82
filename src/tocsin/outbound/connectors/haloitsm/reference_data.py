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
from tocsin.core.config import config_version
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.db.json_text import as_json
from tocsin.core.errors import Permanent, Rejected
from tocsin.inbound.admin import commands as inbound
from tocsin.outbound.connectors.haloitsm.client import LISTS, HaloClient, whole
from tocsin.outbound.connectors.haloitsm.writeback_settings import KIND
from tocsin.outbound.connectors.interfaces import RecordedClient
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

    noun: str
    number: str
    name: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ReferenceLists:
    """All lists of one Halo account."""

    entries: Sequence[ReferenceEntry]

    @property
    def is_known(self) -> bool:
        """Whether the lists have been read yet."""
        return bool(self.entries)

    def has(self, noun: str) -> bool:
        """Whether the list for this noun could be read."""
        return any(entry.noun == noun for entry in self.entries)

    def named(self, noun: str, name: str) -> ReferenceEntry | None:
        """The entry with that name, case-insensitively, or else with that id."""
        folded = name.strip().casefold()
        found = [entry for entry in self.entries if entry.noun == noun and entry.name.casefold() == folded]
        return _at_work(found) or self.numbered(noun, name.strip())

    def numbered(self, noun: str, number: str) -> ReferenceEntry | None:
        return next((e for e in self.entries if e.noun == noun and number and e.number == number), None)

    def agent_with(self, email: str) -> ReferenceEntry | None:
        """The agent with that e-mail address."""
        folded = email.strip().casefold()
        return _at_work([e for e in self.entries if e.noun == "agent" and folded and e.data.get("email") == folded])


def _at_work(found: Sequence[ReferenceEntry]) -> ReferenceEntry | None:
    """The first entry that is active in Halo, or else the first."""
    return min(found, key=lambda entry: bool(entry.data.get("inactive")), default=None)


def load(connection: Connection, integration_id: int) -> ReferenceLists:
    """The lists as last read."""
    found = database.rows(
        connection,
        "SELECT noun, number, name, data FROM outbound_lookup WHERE integration_id = %s ORDER BY noun, id",
        (integration_id,),
    )
    return ReferenceLists([ReferenceEntry(row["noun"], row["number"], row["name"], row["data"]) for row in found])


def read(
    client: HaloClient, line: RecordedClient, now: datetime
) -> tuple[dict[str, list[ReferenceEntry]], dict[str, str]]:
    """Returns every readable list, and by noun the error for the others. Raises if none can be read."""
    found: dict[str, list[ReferenceEntry]] = {}
    problems: dict[str, str] = {}
    for noun in LISTS:
        try:
            rows = client.items(line, noun, now)
        except Permanent as error:
            if type(error) is not Permanent:
                raise
            problems[noun] = str(error)
        else:
            found[noun] = [entry for row in rows if (entry := _entry(noun, row)) is not None]
    return found, problems


def _entry(noun: str, row: Mapping[str, Any]) -> ReferenceEntry | None:
    number = whole(row.get("priorityid") if noun == "priority" else row.get("id"))
    name = str(row.get("name") or row.get("outcome") or row.get("buttonname") or "").strip()
    if not number or not name:
        return None
    data: dict[str, Any] = {}
    if noun == "agent":
        email = str(row.get("email") or row.get("emailaddress") or row.get("smtp_address") or "").strip().casefold()
        data = {"email": email, **({"inactive": True} if row.get("isdisabled") or row.get("inactive") else {})}
        if isinstance(row.get("teams"), list):
            names = [str(t.get("name") or t.get("team_name") or "") for t in row["teams"] if isinstance(t, Mapping)]
            data["teams"] = [team for team in names if team]
    elif noun == "priority":
        data = {"sla": whole(row.get("slaid"))}
    return ReferenceEntry(noun, number, name[:200], data)


def store(
    connection: Connection, integration_id: int, found: Mapping[str, Sequence[ReferenceEntry]], now: datetime
) -> bool:
    """Stores the lists that were read and keeps the others. Returns whether any names changed."""
    before = _names(connection, integration_id)
    for noun, entries in found.items():
        connection.execute(
            "DELETE FROM outbound_lookup WHERE integration_id = %s AND noun = %s", (integration_id, noun)
        )
        unique = {entry.number: {"number": entry.number, "name": entry.name, "data": entry.data} for entry in entries}
        rows = _by_number(entries) if noun == "priority" else list(unique.values())
        connection.execute(
            "INSERT INTO outbound_lookup (integration_id, noun, number, name, data, refreshed_at) "
            "SELECT %s, %s, n.number, n.name, n.data, %s "
            "FROM jsonb_to_recordset(%s) AS n(number text, name text, data jsonb)",
            (integration_id, noun, now, as_json(rows)),
        )
    return _names(connection, integration_id) != before


def _names(connection: Connection, integration_id: int) -> set[tuple[str, str, str]]:
    return {(entry.noun, entry.number, entry.name) for entry in load(connection, integration_id).entries}


def _by_number(entries: Sequence[ReferenceEntry]) -> list[dict[str, Any]]:
    """Priorities by id; an id with different names under different SLAs keeps all of them in `names`."""
    names: dict[str, list[str]] = {}
    for entry in entries:
        known = names.setdefault(entry.number, [])
        if entry.name not in known:
            known.append(entry.name)
    return [{"number": number, "name": said[0], "data": {"names": said}} for number, said in names.items()]


def publish_to_inbound(integration: OutboundIntegration, now: datetime) -> None:
    """Updates the settings of the inbound integrations that write back through this one.

    Sets the status of each id, the name of each agent (the user's own name if matched), and those priorities whose id
    has the same meaning under every SLA. Entries for ids unknown to Halo are kept.
    """
    rows = list(LookUp.objects.filter(integration=integration))
    statuses = {row.number: row.name for row in rows if row.noun == "status"}
    agents = _agent_names(integration, [row for row in rows if row.noun == "agent"])
    priorities = {}
    for row in rows:
        words = {_word(name) for name in row.data.get("names", [])} if row.noun == "priority" else set()
        if len(words) == 1 and (word := words.pop()):
            priorities[row.number] = word

    def taught(settings: Mapping[str, Any]) -> dict[str, Any]:
        wanted = {
            **settings,
            "halo_address": settings.get("halo_address") or integration.settings.get("base_url", ""),
            "statuses": {**settings.get("statuses", {}), **statuses},
            "agents": {**settings.get("agents", {}), **agents},
            "priorities": {**priorities, **settings.get("priorities", {})},
        }
        return {name: value for name, value in wanted.items() if value not in ({}, "")}

    for door in integration.inbound.filter(kind__in=family(KIND)):
        if taught(door.settings) == door.settings:
            continue
        try:
            with config_version.exclusive(door):
                spec = inbound.integration_spec(door)
                wanted = {**spec, "settings": taught(spec.get("settings") or {})}
                inbound.save_integration(wanted, existing=door, actor=READER, now=now)
        except Rejected:
            # The integration has another problem, which its own view shows.
            continue


def _word(name: str) -> str:
    folded = name.casefold()
    return next((word for text, word in _WORDS.items() if text in folded), "")


def _agent_names(integration: OutboundIntegration, rows: Sequence[LookUp]) -> dict[str, str]:
    users = {user.email.casefold(): user.display_name for user in User.objects.filter(is_active=True) if user.email}
    matches = AgentMatch.objects.filter(integration=integration).select_related("user")
    chosen = {match.number: match.user.display_name for match in matches}
    found = {row.number: chosen.get(row.number) or users.get(row.data.get("email", "")) or row.name for row in rows}
    return dict(list(found.items())[:_MAX_AGENTS])
