"""Reasons that several modules of this package use."""

from __future__ import annotations

from collections.abc import Sequence

from tocsin.core.reasons import Param, ReasonType

MORE = ReasonType("health.more", "{count} more", "{count} more")


def limited(values: Sequence[Param], limit: int, count: int | None = None) -> tuple[Param, ...]:
    """The first values, and how many more there are. `count` is their total number, if `values` are only some."""
    more = (len(values) if count is None else count) - limit
    return (*values[:limit], MORE(count=more)) if more > 0 else tuple(values[:limit])
