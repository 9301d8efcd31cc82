"""Traces: one trace for each alert, from the message that opened it to the deliveries about it.

The ids of a trace follow from the alert's id, so that each process finds its part without asking another one. Off
unless OTEL_EXPORTER_OTLP_ENDPOINT is set: then `exporter` is None, which is all that callers check.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cache
from importlib import import_module
from typing import Protocol
from uuid import UUID

from tocsin.core.config import crypto

log = logging.getLogger(__name__)

#: OpenTelemetry's own variables. The first one that is set names the receiver.
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

_MISSING = (
    "%s is set, and the packages for it are missing: install tocsin[otel]. Tocsin works without traces until then."
)


class SpanKind(StrEnum):
    """As OpenTelemetry names them."""

    CONSUMER = "CONSUMER"
    INTERNAL = "INTERNAL"
    CLIENT = "CLIENT"


@dataclass(frozen=True, slots=True)
class TraceIds:
    """The ids of a trace and of its first span."""

    trace_id: int
    root_id: int


@dataclass(frozen=True, slots=True)
class Span:
    """One finished step. `is_root`: it is the first of its trace, and the parent of all others."""

    name: str
    kind: SpanKind
    trace: TraceIds
    began_at: datetime
    ended_at: datetime
    attributes: Mapping[str, str | int] = field(default_factory=dict)
    is_root: bool = False
    #: The code of what went wrong; empty: nothing did.
    error: str = ""


class SpanExporter(Protocol):
    """Sends spans in the background. Neither method raises or waits for the receiver for long."""

    def export(self, span: Span) -> None: ...

    def close(self) -> None: ...


#: The exporter of this process; None while traces are off.
exporter: SpanExporter | None = None


def set_up(node: str) -> None:
    """Starts the export of this process's spans, if the environment names a receiver. Call it after the last fork."""
    global exporter
    variable = next((name for name in ENDPOINTS if os.environ.get(name)), None)
    if variable is None or exporter is not None:
        return
    try:
        exporter = import_module("tocsin.core.runtime.otlp").make_exporter(node)
    except ImportError:
        log.warning(_MISSING, variable)
    except Exception:  # a wrong variable of OpenTelemetry's must not stop the pager
        log.exception("Traces cannot be exported.")


def shut_down() -> None:
    """Sends what is left, within seconds, and ends the export."""
    global exporter
    closing, exporter = exporter, None
    if closing is not None:
        closing.close()


def trace_of_alert(alert_id: int) -> TraceIds:
    """Returns the trace of an alert, the same in each process with the same secret key."""
    digest = hashlib.sha256(f"trace {_installation()} {alert_id}".encode()).digest()
    return TraceIds(int.from_bytes(digest[:16]) or 1, int.from_bytes(digest[16:24]) or 1)


def trace_of_message(message_id: UUID) -> TraceIds:
    """Returns the trace of a message that belongs to no alert."""
    return TraceIds(message_id.int or 1, message_id.int & (2**64 - 1) or 1)


@cache
def _installation() -> str:
    """Distinguishes the alerts of two installations with the same receiver."""
    return crypto.fingerprints()[0]
