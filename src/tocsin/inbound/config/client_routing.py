"""What a route makes of a client table: which group, and by which policy, answers for the message's client. Pure."""

from __future__ import annotations

from dataclasses import replace

from tocsin.inbound.config.compiled_integration import ClientEntry, ClientMap, CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.routes import RouteChoice

#: Where the client stands in a message: its name, or the number that its source has for it.
_FIELDS = ("client", "client_id")


def by_client(door: CompiledIntegration, route: RouteChoice, reading: NormalizedEvent) -> RouteChoice:
    """The route with the group and the policy that its table has for the message's client.

    A client that is not in the table leaves the route as it is, and the reason says so.
    """
    if route.table is None:
        return route
    table = table_of(door, route)
    if table is None:
        return replace(route, reason=f"{route.reason}; its client table is gone")
    named = [text for field in _FIELDS if (text := reading.mapped.text(field))]
    for text in named:
        entry = table.clients.get(text.casefold())
        if entry is not None:
            return answered_by(route, entry, f"{text} is in client table {table.name}")
    who = f"client {named[0]}" if named else "a message without a client"
    return replace(route, reason=f"{route.reason}; {who} is not in client table {table.name}")


def table_of(door: CompiledIntegration, route: RouteChoice) -> ClientMap | None:
    """The client table that the route names; None: it names none, or that is gone."""
    if route.table is None:
        return None
    return door.directory.client_tables.get(route.table.casefold() if isinstance(route.table, str) else route.table)


def answered_by(route: RouteChoice, entry: ClientEntry, why: str) -> RouteChoice:
    """The route for a client of which its table has this entry."""
    return replace(
        route,
        reason=f"{route.reason}; {why}",
        groups=route.groups if entry.group_id is None else (entry.group_id,),
        policy=route.policy if entry.policy_id is None else entry.policy_id,
    )
