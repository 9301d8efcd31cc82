"""Applies a route's client table: selects the group and policy responsible for the message's client. Pure."""

from __future__ import annotations

from dataclasses import replace

from tocsin.core.reasons import Reason, joined
from tocsin.inbound.config.compiled_integration import ClientEntry, ClientMap, CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.reasons import CLIENT_IN_TABLE, CLIENT_NOT_IN_TABLE, CLIENT_TABLE_DELETED, NO_CLIENT
from tocsin.inbound.config.routes import RouteChoice

#: The mapped fields that identify the client: its name, or its id at the source.
_FIELDS = ("client", "client_id")


def apply_client_table(integration: CompiledIntegration, route: RouteChoice, event: NormalizedEvent) -> RouteChoice:
    """Returns the route with the group and policy that its client table has for the message's client.

    The route stays unchanged for a client that is not in the table, and the reason says so.
    """
    if route.client_table is None:
        return route
    table = client_table_of(integration, route)
    if table is None:
        return replace(route, reason=joined(route.reason, CLIENT_TABLE_DELETED()))
    client_names = [text for field in _FIELDS if (text := event.mapped.text(field))]
    for text in client_names:
        entry = table.clients.get(text.casefold())
        if entry is not None:
            return route_for_client(route, entry, CLIENT_IN_TABLE(client=text, table=table.name))
    why = CLIENT_NOT_IN_TABLE(client=client_names[0], table=table.name) if client_names else NO_CLIENT(table=table.name)
    return replace(route, reason=joined(route.reason, why))


def client_table_of(integration: CompiledIntegration, route: RouteChoice) -> ClientMap | None:
    """Returns the route's client table; None if the route has none or it was deleted."""
    if route.client_table is None:
        return None
    return integration.directory.client_tables.get(
        route.client_table.casefold() if isinstance(route.client_table, str) else route.client_table
    )


def route_for_client(route: RouteChoice, entry: ClientEntry, reason: Reason) -> RouteChoice:
    """Returns the route with the group and policy of the client's entry."""
    return replace(
        route,
        reason=joined(route.reason, reason),
        groups=route.groups if entry.group_id is None else (entry.group_id,),
        policy=route.policy if entry.policy_id is None else entry.policy_id,
    )
