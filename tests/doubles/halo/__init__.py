"""HaloITSM as a real server on loopback: the small Halo of the demo, with its faults at hand."""

from __future__ import annotations

from tocsin.fake_halo.server import CUSTOM, EVENT_ONLY, FULL, FULL_LINKED, SMALL, FakeResponse, HaloServer, running
from tocsin.fake_halo.state import API_AGENT, DESK_AGENT, EVENTS, UNASSIGNED, FakeHalo, FakeHaloEvent

#: What Halo answers when a query takes too long.
TIMEOUT = FakeResponse(504, b"<html><body><h1>504 Gateway Time-out</h1></body></html>")
#: A right that is lost.
FORBIDDEN = FakeResponse(403)
EXPIRED = FakeResponse(401)

__all__ = [
    "API_AGENT",
    "CUSTOM",
    "DESK_AGENT",
    "EVENTS",
    "EVENT_ONLY",
    "EXPIRED",
    "FORBIDDEN",
    "FULL",
    "FULL_LINKED",
    "SMALL",
    "TIMEOUT",
    "UNASSIGNED",
    "FakeHalo",
    "FakeHaloEvent",
    "FakeResponse",
    "HaloServer",
    "running",
]  # fmt: skip
