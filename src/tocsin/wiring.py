"""The composition root: which reactors follow an alert event, and which loops a worker runs."""

from __future__ import annotations


def install() -> None:
    """Hangs the higher rooms' functions on the lower rooms' hooks. Called once, when all models are loaded."""
