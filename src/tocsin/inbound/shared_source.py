"""Integrations of one Source share alerts, because one installation of a ticket system may post to several doors. Two
installations may not: both count their tickets from 1, and a ticket of one would be taken for one of the other, page
nobody, and close its alert."""

from __future__ import annotations

from urllib.parse import urlsplit

from tocsin.catalogue.kinds import Kind, SettingKind, load_kinds
from tocsin.core.errors import Rejected
from tocsin.inbound.models import Integration


def refuse_two_systems(integration: Integration) -> None:
    """Raises Rejected ("shared_source") where another integration of its Source is known to be of another
    installation. Addresses that nobody entered tell nothing."""
    kind = load_kinds()[integration.kind]
    own = _hosts(integration, kind)
    if not kind.follows_agent or not own:
        return
    source = integration.source or kind.source
    for other in Integration.objects.exclude(pk=integration.pk).select_related("outbound").order_by("pk"):
        its_kind = load_kinds().get(other.kind)
        if its_kind is None or not its_kind.follows_agent or (other.source or its_kind.source) != source:
            continue
        theirs = _hosts(other, its_kind)
        if theirs and not {*theirs} & {*own}:
            raise Rejected(
                "shared_source",
                f'source: "{source}" is the Source of {other.name} too, which is of {theirs[0]} and not of {own[0]}: '
                f"tickets of the same number would be one alert. Give this one a Source of its own, such as {source} "
                f"{own[0]}.",
                "source",
            )


def _hosts(integration: Integration, kind: Kind) -> list[str]:
    """By which names its ticket system is known: the one that people see, and the one that is written to."""
    named = [integration.settings.get(one.name) for one in kind.settings if one.kind is SettingKind.ADDRESS]
    outbound = integration.outbound.settings.get("base_url") if integration.outbound is not None else ""
    return [host for address in (*named, outbound) if (host := urlsplit(str(address or "")).hostname)]
