"""The kinds of outbound integrations."""

from __future__ import annotations

from collections.abc import Mapping

from tocsin.outbound.connectors.contract import ConnectorKind
from tocsin.outbound.connectors.haloitsm.connector import HALOITSM
from tocsin.outbound.connectors.http.connector import HTTP

KINDS: Mapping[str, ConnectorKind] = {kind.name: kind for kind in (HALOITSM, HTTP)}
