"""Problems of outbound integrations, as sentences for Home, `tocsin doctor` and the API. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tocsin.core.db import database
from tocsin.core.db.database import Connection

#: How long a system is unreachable before that counts as a problem.
_LONG = "interval '5 minutes'"

_PROBLEMS = database.literal(f"""
SELECT o.id, o.name, s.problem, s.last_transient_error, s.poll_error, s.webhook_problem,
       s.last_transient_error_at < clock_timestamp() - {_LONG} AS is_long,
       (SELECT count(*) FROM outbound_call c WHERE c.integration_id = o.id AND c.status = 'dead') AS dead,
       (SELECT c.error FROM outbound_call c WHERE c.integration_id = o.id AND c.status = 'dead'
        ORDER BY c.id DESC LIMIT 1) AS why,
       (SELECT count(*) FROM outbound_call c WHERE c.integration_id = o.id AND c.status = 'queued') AS waiting
FROM outbound_outboundintegration o JOIN outbound_integrationstatus s ON s.integration_id = o.id
WHERE o.is_enabled ORDER BY o.name
""")


@dataclass(frozen=True, slots=True)
class IntegrationProblem:
    """One problem: its kind, a sentence, and its integration."""

    kind: str
    integration_id: int
    name: str
    text: str
    is_urgent: bool = False


def find_problems(connection: Connection) -> Iterator[IntegrationProblem]:
    """Yields all problems, grouped by integration."""
    for row in database.rows(connection, _PROBLEMS):
        integration_id, name = row["id"], row["name"]
        is_unreachable = bool(row["last_transient_error"] and row["is_long"])
        if row["problem"]:
            yield IntegrationProblem("needs_you", integration_id, name, f"{name}: {row['problem']}", is_urgent=True)
        elif is_unreachable:
            waiting_text = f" {row['waiting']} wait." if row["waiting"] else ""
            yield IntegrationProblem(
                "away", integration_id, name, f"{name}: {row['last_transient_error']}{waiting_text}"
            )
        if row["dead"]:
            count_text = "1 thing" if row["dead"] == 1 else f"{row['dead']} things"
            yield IntegrationProblem(
                "dead",
                integration_id,
                name,
                f"{name} could not do {count_text}: look, and send again. Last: {row['why']}",
            )
        if row["webhook_problem"]:
            yield IntegrationProblem("webhook", integration_id, name, f"{name}: {row['webhook_problem']}")
        if row["poll_error"] and not row["problem"] and not is_unreachable:
            yield IntegrationProblem("look", integration_id, name, f"{name}: {row['poll_error']}")
