"""Problems of workflows: unreadable ones, stuck runs and reached limits, for Home and doctor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, reason_from_json
from tocsin.workflows import reasons
from tocsin.workflows.definition import definition
from tocsin.workflows.models import Workflow, WorkflowRun
from tocsin.workflows.states import WorkflowRunStatus

_STUCK = """
SELECT w.id, w.name, count(*) AS runs,
       (array_agg(jsonb_build_object('code', r.reason_code, 'data', r.reason_data) ORDER BY r.id DESC))[1] AS reason
FROM workflows_run r JOIN workflows_workflow w ON w.id = r.workflow_id
WHERE r.status = 'stuck' GROUP BY w.id, w.name ORDER BY w.name
"""


#: How long a reached limit is reported.
_REPORTED_FOR = "interval '1 day'"

_LIMITED = database.literal(f"""
SELECT w.id, w.name, l.refused FROM workflows_limit l JOIN workflows_workflow w ON w.id = l.workflow_id
WHERE w.is_enabled AND l.refused_at > clock_timestamp() - {_REPORTED_FOR} ORDER BY w.name
""")


@dataclass(frozen=True, slots=True)
class WorkflowProblem:
    """One problem: `unreadable`, `stuck` or `limited`."""

    workflow_id: int
    name: str
    kind: str
    reason: Reason


def with_runs(rows: QuerySet[Workflow]) -> QuerySet[Workflow]:
    """Annotates workflows with `stuck`, the number of stuck runs, and `ran_at`, the last run's creation.

    Cheap however many runs there are: both read one end of an index.
    """
    runs = WorkflowRun.objects.filter(workflow=OuterRef("pk")).order_by()
    stuck = runs.filter(status=WorkflowRunStatus.STUCK).values("workflow").annotate(number=Count("pk")).values("number")
    return rows.annotate(
        stuck=Coalesce(Subquery(stuck, output_field=IntegerField()), 0),
        ran_at=Subquery(runs.order_by("-pk").values("created_at")[:1]),
    )


def find_problems(connection: Connection) -> Iterator[WorkflowProblem]:
    """Yields the current problems."""
    for row in database.rows(
        connection, "SELECT id, name, definition FROM workflows_workflow WHERE is_enabled ORDER BY name"
    ):
        try:
            definition.load(row["definition"])
        except Rejected as problem:
            reason = reasons.DOES_NOTHING(workflow=row["name"], why=problem.reason)
            yield WorkflowProblem(row["id"], row["name"], "unreadable", reason)
    for row in database.rows(connection, _STUCK):
        reason = reasons.STUCK_RUNS(count=row["runs"], workflow=row["name"], why=reason_from_json(row["reason"]))
        yield WorkflowProblem(row["id"], row["name"], "stuck", reason)
    for row in database.rows(connection, _LIMITED):
        reason = reasons.LIMITED(count=row["refused"], workflow=row["name"])
        yield WorkflowProblem(row["id"], row["name"], "limited", reason)
