"""What is wrong with workflows: those that cannot be read, and runs that are stuck. For Home and doctor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from tocsin.core import database
from tocsin.core.database import Connection
from tocsin.core.errors import Rejected
from tocsin.workflows import definition
from tocsin.workflows.models import Run, Workflow
from tocsin.workflows.states import RunStatus

_STUCK = """
SELECT w.id, w.name, count(*) AS runs, (array_agg(r.reason ORDER BY r.id DESC))[1] AS reason
FROM workflows_run r JOIN workflows_workflow w ON w.id = r.workflow_id
WHERE r.status = 'stuck' GROUP BY w.id, w.name ORDER BY w.name
"""


@dataclass(frozen=True, slots=True)
class Wrong:
    """One thing that is wrong: `unreadable` or `stuck`, with the sentence that says it."""

    workflow_id: int
    name: str
    kind: str
    text: str


def with_runs(rows: QuerySet[Workflow]) -> QuerySet[Workflow]:
    """The workflows with `stuck`, how many runs are, and `ran_at`, when the last one began to look. Cheap, however many
    runs there are: both walk an index to its end."""
    own = Run.objects.filter(workflow=OuterRef("pk")).order_by()
    stuck = own.filter(status=RunStatus.STUCK).values("workflow").annotate(number=Count("pk")).values("number")
    return rows.annotate(
        stuck=Coalesce(Subquery(stuck, output_field=IntegerField()), 0),
        ran_at=Subquery(own.order_by("-pk").values("created_at")[:1]),
    )


def wrong(connection: Connection) -> Iterator[Wrong]:
    """What is wrong now."""
    for row in database.rows(
        connection, "SELECT id, name, definition FROM workflows_workflow WHERE is_enabled ORDER BY name"
    ):
        try:
            definition.load(row["definition"])
        except Rejected as problem:
            text = f"The workflow {row['name']} does nothing: {problem.detail}"
            yield Wrong(row["id"], row["name"], "unreadable", text)
    for row in database.rows(connection, _STUCK):
        said = "1 run of it is" if row["runs"] == 1 else f"{row['runs']} runs of it are"
        yield Wrong(row["id"], row["name"], "stuck", f"The workflow {row['name']}: {said} stuck. {row['reason']}")
