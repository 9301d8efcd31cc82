"""Formats a backtest as JSON for scripts. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tocsin.simulate.backtest import Backtest, BacktestDifference
from tocsin.simulate.backtest_diff import BacktestTotals
from tocsin.simulate.replay_state import ReplayOutcome


def as_json(found: Backtest) -> dict[str, Any]:
    """The backtest as plain values; `differences` are newest first, those not listed are counted in `more`."""
    return {
        "looked_at": found.looked_at,
        "from": _iso(found.first_at),
        "to": _iso(found.last_at),
        "milliseconds": round(found.took * 1000),
        "before": _tally(found.before),
        "after": _tally(found.after),
        "differing": found.differing,
        "counts": {str(kind): number for kind, number in sorted(found.counts.items())},
        "differences": [_difference(one) for one in found.differences],
        "more": found.differing - len(found.differences),
    }


def _tally(tally: BacktestTotals) -> dict[str, Any]:
    return {
        "statuses": {str(status): number for status, number in sorted(tally.statuses.items())},
        "opened": tally.opened,
        "pages": tally.pages,
        "at_night": tally.at_night,
    }


def _difference(one: BacktestDifference) -> dict[str, Any]:
    return {
        "message_id": str(one.message_id),
        "received_at": _iso(one.received_at),
        "subject": one.subject,
        "source_id": one.source_id,
        "changes": [{"kind": str(change.kind), "says": change.says} for change in one.changes],
        "before": _came(one.before),
        "after": _came(one.after),
    }


def _came(came: ReplayOutcome) -> dict[str, Any]:
    paging = came.paging
    return {
        "status": str(came.status),
        "reason": came.reason,
        "key": came.key,
        "route": came.route,
        "mode": str(paging.mode) if paging is not None else None,
        "why": paging.reason if paging is not None else "",
        "priority": str(came.opening.alert.priority) if came.opening is not None else None,
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment is not None else None
