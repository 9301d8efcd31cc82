"""One message as its page shows it: the body made readable, and how it was read and decided. Reads only."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tocsin.core.errors import Rejected
from tocsin.inbound.explained import trace_of
from tocsin.inbound.models import InboundMessage, IntegrationVersion
from tocsin.inbound.trace import Trace

#: Bodies longer than this are shown cut; the whole one can be downloaded through the API.
SHOWN = 200_000


@dataclass(frozen=True, slots=True)
class Explained:
    """What the page shows beside the row."""

    body: str
    is_cut: bool
    trace: Trace | None
    #: Why there is no trace.
    problem: str = ""


def explain(message: InboundMessage, version: IntegrationVersion | None) -> Explained:
    """The message by the rules of `version`: those that decided it, or the current ones."""
    raw = bytes(message.raw)
    body = readable(raw)
    try:
        trace = trace_of(message, version)
    except Rejected as rejected:
        return Explained(body[:SHOWN], len(body) > SHOWN, None, rejected.detail)
    return Explained(body[:SHOWN], len(body) > SHOWN, trace)


def readable(raw: bytes) -> str:
    """JSON indented, anything else as it came; NUL and broken UTF-8 are made visible."""
    text = raw.decode("utf-8", "replace").replace("\x00", "�")
    if len(text) > SHOWN * 2:
        return text
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
