"""Problems of outbound integrations, for Home, `tocsin doctor` and the API. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import NO_REASON, Reason, joined, reason_from_json
from tocsin.outbound import reasons

#: How long a system is unreachable before that counts as a problem.
_LONG = "interval '5 minutes'"

_PROBLEMS = database.literal(f"""
SELECT o.id, o.name, s.problem, s.last_transient_error,
       s.poll_error, s.webhook_problem, d.dead,
       e.error,
       s.last_transient_error_at < clock_timestamp() - {_LONG} AS is_long,
       (SELECT count(*) FROM outbound_call c WHERE c.integration_id = o.id AND c.status = 'queued') AS waiting
FROM outbound_outboundintegration o JOIN outbound_integrationstatus s ON s.integration_id = o.id
CROSS JOIN LATERAL (
  SELECT count(*) AS dead FROM outbound_call c WHERE c.integration_id = o.id AND c.status = 'dead') AS d
LEFT JOIN LATERAL (
  SELECT c.error FROM outbound_call c WHERE c.integration_id = o.id AND c.status = 'dead'
  ORDER BY c.id DESC LIMIT 1) AS e ON true
WHERE o.is_enabled ORDER BY o.name
""")


@dataclass(frozen=True, slots=True)
class IntegrationProblem:
    """One problem: its kind, the reason, and its integration."""

    kind: str
    integration_id: int
    name: str
    reason: Reason
    is_urgent: bool = False


def find_problems(connection: Connection) -> Iterator[IntegrationProblem]:
    """Yields all problems, grouped by integration."""
    for row in database.rows(connection, _PROBLEMS):
        integration_id, name = row["id"], row["name"]
        problem, transient_error = reason_from_json(row["problem"]), reason_from_json(row["last_transient_error"])
        is_unreachable = bool(transient_error and row["is_long"])
        if problem:
            yield IntegrationProblem("needs_you", integration_id, name, _problem_of(name, problem), is_urgent=True)
        elif is_unreachable:
            waiting = reasons.CALLS_WAITING(count=row["waiting"]) if row["waiting"] else NO_REASON
            reason = _problem_of(name, joined(transient_error, waiting, separator=" "))
            yield IntegrationProblem("away", integration_id, name, reason)
        if row["dead"]:
            reason = reasons.CALLS_FAILED(integration=name, count=row["dead"], error=reason_from_json(row["error"]))
            yield IntegrationProblem("dead", integration_id, name, reason)
        if webhook_problem := reason_from_json(row["webhook_problem"]):
            yield IntegrationProblem("webhook", integration_id, name, _problem_of(name, webhook_problem))
        if (poll_error := reason_from_json(row["poll_error"])) and not problem and not is_unreachable:
            yield IntegrationProblem("look", integration_id, name, _problem_of(name, poll_error))


def _problem_of(integration: str, problem: Reason) -> Reason:
    return reasons.PROBLEM_OF(integration=integration, problem=problem)
