"""Formats a backtest as JSON for scripts. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tocsin.core.reason_json import show_reason
from tocsin.core.reasons import NO_REASON, as_reason
from tocsin.simulate.backtest import Backtest, BacktestDifference
from tocsin.simulate.backtest_diff import BacktestTotals
from tocsin.simulate.replay_state import ReplayOutcome


def as_json(result: Backtest) -> dict[str, Any]:
    """The backtest as plain values; `differences` are newest first, those not listed are counted in `more`."""
    return {
        "looked_at": result.message_count,
        "from": _iso(result.first_at),
        "to": _iso(result.last_at),
        "milliseconds": round(result.duration_seconds * 1000),
        "before": _totals(result.before),
        "after": _totals(result.after),
        "differing": result.differing_count,
        "counts": {str(kind): count for kind, count in sorted(result.counts.items())},
        "effects": [show_reason(reason, "says") for reason in result.effect_reasons],
        "differences": [_difference(difference) for difference in result.differences],
        "more": result.differing_count - len(result.differences),
        "left_out": result.budget.left_out,
        **show_reason(result.budget.reason, "partial"),
    }


def _totals(totals: BacktestTotals) -> dict[str, Any]:
    return {
        "statuses": {str(status): count for status, count in sorted(totals.statuses.items())},
        "opened": totals.opened,
        "pages": totals.pages,
        "at_night": totals.at_night,
    }


def _difference(difference: BacktestDifference) -> dict[str, Any]:
    return {
        "message_id": str(difference.message_id),
        "received_at": _iso(difference.received_at),
        "subject": difference.subject,
        "source_id": difference.source_id,
        "changes": [{"kind": str(change.kind), **show_reason(change.reason, "says")} for change in difference.changes],
        "before": _outcome(difference.before),
        "after": _outcome(difference.after),
    }


def _outcome(outcome: ReplayOutcome) -> dict[str, Any]:
    paging = outcome.paging
    return {
        "status": str(outcome.status),
        **show_reason(outcome.reason),
        "key": outcome.key,
        **show_reason(outcome.route, "route"),
        "mode": str(paging.mode) if paging is not None else None,
        **show_reason(as_reason(paging.reason) if paging is not None else NO_REASON, "why"),
        "priority": str(outcome.opening.alert.priority) if outcome.opening is not None else None,
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment is not None else None
