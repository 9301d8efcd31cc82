"""The registry of outbound connectors."""

from __future__ import annotations

from collections.abc import Mapping

from tocsin.outbound.connectors.haloitsm.connector import HALOITSM
from tocsin.outbound.connectors.http import HTTP
from tocsin.outbound.connectors.interfaces import ConnectorKind

KINDS: Mapping[str, ConnectorKind] = {kind.name: kind for kind in (HALOITSM, HTTP)}
