"""Refuses integrations that must not share a Source, and with it their alerts.

Several integrations of one ticket system installation may share a Source. Two installations may not: both count
tickets from 1, so a ticket of one would be taken for one of the other, page nobody, and close its alert. Nor may a
user share the Source of an integration that they may not change, because that would let them close its alerts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from tocsin.access import boundary
from tocsin.access.audit import AuditActor
from tocsin.access.roles import Permission
from tocsin.alerts.models import Alert
from tocsin.alerts.states import ACTIVE
from tocsin.catalogue.kinds import IntegrationKind, IntegrationSettingType, load_kinds
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, sentence
from tocsin.core.validation.field_errors import AT_PATH
from tocsin.inbound.models import Integration
from tocsin.people import permissions

#: The keys of a spec that decide which alerts its messages belong to, and whether they close one.
_DECIDES = ("kind", "source", "group", "mode", "settings", "mapping", "rules", "dedup_key")


def refuse_two_systems(integration: Integration) -> None:
    """Raises Rejected("shared_source") if another integration with the same Source belongs to another installation.

    Integrations without a configured address are not compared.
    """
    kind = load_kinds()[integration.kind]
    hosts = _hosts(integration, kind)
    if not kind.assigns_source_agent or not hosts:
        return
    source = integration.source or kind.source
    for other in Integration.objects.exclude(pk=integration.pk).select_related("outbound").order_by("pk"):
        other_kind = load_kinds().get(other.kind)
        if other_kind is None or not other_kind.assigns_source_agent or (other.source or other_kind.source) != source:
            continue
        other_hosts = _hosts(other, other_kind)
        if other_hosts and not {*other_hosts} & {*hosts}:
            problem = sentence(
                '"{source}" is also the Source of {other}, which receives tickets from {other_host}, not {host}. '
                "Tickets with the same number would share an alert. Use a different Source, such as {source} "
                "{host}.",
                source=source or "",
                other=other.name,
                other_host=other_hosts[0],
                host=hosts[0],
            )
            raise _conflict(other, source or "", problem)


def refuse_without_rights(
    integration: Integration,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any],
    *,
    key_source_before: str | None,
    actor: AuditActor,
) -> None:
    """Raises Rejected("shared_source") if `integration` now shares its Source with an integration that the actor may
    not change. `before` and `after` are its specs: a change that does not affect alerts is allowed if the Source
    was shared before."""
    key_source = key_source_of(integration)
    is_same = before is not None and all(before.get(key) == after.get(key) for key in _DECIDES)
    if is_same and key_source == key_source_before:
        return
    viewer = permissions.viewer_of(actor)
    if viewer is None:
        return
    for other in _sharing(integration, key_source):
        if not viewer.may(Permission.MANAGE_ROUTING, other.group_id):
            raise _conflict(
                other,
                key_source,
                sentence(
                    '"{source}" is also the Source of {other}, which you can\'t edit. This integration could close its '
                    "alerts. Use a different Source, or ask an administrator.",
                    source=key_source,
                    other=other.name,
                ),
            )


def _conflict(other: Integration, source: str, problem: Reason) -> Rejected:
    """Returns the rejection, which names the other integration only to those who see it."""
    with boundary.as_viewer():
        is_visible = Integration.objects.filter(pk=other.pk).exists()
    shown = (
        problem
        if is_visible
        else sentence(
            '"{source}" is also the Source of an integration that you can\'t see. Use a different Source, or ask an '
            "administrator.",
            source=source,
        )
    )
    return Rejected("shared_source", AT_PATH(path="source", problem=shown), "source")


def key_source_of(integration: Integration) -> str:
    """Returns the first part of the integration's dedup keys. Integrations with the same value share alerts."""
    kind = load_kinds().get(integration.kind)
    source = integration.source or (kind.source if kind is not None else "")
    return source or integration.dedup_namespace or integration.name


def _sharing(integration: Integration, key_source: str) -> Iterator[Integration]:
    """Returns the other integrations with that Source, now or when alerts opened that are still active."""
    alerts = Alert.objects.filter(source=key_source, status__in=sorted(ACTIVE))
    integration_ids = set(alerts.values_list("integration_id", flat=True).distinct())
    others = Integration.objects.exclude(pk=integration.pk).order_by("pk")
    return (other for other in others if other.pk in integration_ids or key_source_of(other) == key_source)


def _hosts(integration: Integration, kind: IntegrationKind) -> list[str]:
    """Returns the hosts of the ticket system: those in the settings, and that of the outbound integration."""
    addresses = [
        integration.settings.get(setting.name)
        for setting in kind.settings
        if setting.kind is IntegrationSettingType.ADDRESS
    ]
    outbound = integration.outbound.settings.get("base_url") if integration.outbound is not None else ""
    return [host for address in (*addresses, outbound) if (host := urlsplit(str(address or "")).hostname)]
