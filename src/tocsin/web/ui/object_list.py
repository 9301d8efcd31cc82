"""The list page of a kind of configurable object: its filter by name, its pages, and the button that adds an object.

What a row shows is the kind's own; everything else comes from the Resource.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpResponse
from django.urls import reverse
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from tocsin.access import boundary
from tocsin.alerts import store
from tocsin.alerts.models import Alert
from tocsin.alerts.store import Entry
from tocsin.core.db import database
from tocsin.core.db.base import viewer_transaction
from tocsin.core.db.queries import QueryUnion, first, narrow
from tocsin.core.ids import first_uuid7
from tocsin.inbound.enums import MessageStatus
from tocsin.resources.resource import Resource
from tocsin.web.http.request import PARTIAL_HEADER, SignedInRequest, may, may_somewhere, render_view

# ---------- pagination
# Keyset pagination: a cursor holds the key of the last row. Without OFFSET, results stay stable while rows are
# added.


DEFAULT_LIMIT = 50


@dataclass(frozen=True, slots=True)
class PaginatedRows[Row]:
    """One page of results. `next` is the cursor of the following page, or empty at the end."""

    rows: Sequence[Row]
    next: str
    #: Whether this is a page after the first.
    is_later: bool = False


def paginate_by_number[M: Model](
    rows: QueryUnion[M], cursor: str, *, descending: bool = True, size: int = DEFAULT_LIMIT
) -> PaginatedRows[M]:
    """Paginate by numeric primary key. An invalid cursor counts as absent."""
    return _paginate(rows, _number(cursor), descending, size)


def paginate_by_uuid[M: Model](rows: QueryUnion[M], cursor: str, *, size: int = DEFAULT_LIMIT) -> PaginatedRows[M]:
    """Paginate by time-ordered UUID, newest first. An invalid cursor counts as absent."""
    return _paginate(rows, _uuid(cursor), True, size)


def paginate_entries(
    alerts: QueryUnion[Alert], cursor: str, *, descending: bool = True, size: int = DEFAULT_LIMIT
) -> PaginatedRows[Entry]:
    """Paginate active alerts as `paginate_by_number` does, with one row a storm."""
    position = _number(cursor)
    if position is not None:
        alerts = narrow(alerts, lambda part: part.filter(**{"pk__lt" if descending else "pk__gt": position}))
    entries, last = store.first_entries(alerts, size, descending=descending)
    return PaginatedRows(entries, "" if last is None else str(last), position is not None)


def _paginate[M: Model](rows: QueryUnion[M], position: object, descending: bool, size: int) -> PaginatedRows[M]:
    if position is not None:
        rows = narrow(rows, lambda part: part.filter(**{"pk__lt" if descending else "pk__gt": position}))
    fetched = first(rows, size + 1, descending=descending)
    page_rows = fetched[:size]
    return PaginatedRows(page_rows, str(page_rows[-1].pk) if len(fetched) > size else "", position is not None)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _uuid(text: str) -> UUID | None:
    return _or_none(lambda: UUID(text))


def _or_none[T](parse: Callable[[], T]) -> T | None:
    try:
        return parse()
    except ValueError:
        return None


# ---------- capped counts
# Counts for display that stop at a cap, so that their cost does not grow with the tables. Reads only.
#
# Above the cap the interface shows "10,000+". An uncapped count cost the database as much as hundreds of messages.


#: Cap for messages. A count of one more means "more than the cap".
MAX_COUNTED_MESSAGES = 10_000
#: Cap for alerts. Above a thousand open alerts the exact number no longer matters.
MAX_COUNTED_ALERTS = 1_000

DAY = timedelta(hours=24)


def capped_count[Row: Model](rows: QuerySet[Row], limit: int) -> int:
    """Return the number of rows, at most `limit`."""
    return rows.order_by()[:limit].count()


def counted(number: int, limit: int) -> str:
    """Return the number formatted for the user's language, or for example "10,000+" above `limit`."""
    text = number_format(min(number, limit), force_grouping=True)
    return f"{text}+" if number > limit else text


def outcomes(now: datetime, integration: int | None = None) -> list[tuple[str, int]]:
    """Return (outcome, count) of the last 24 hours' messages, of one integration or of all that the viewer sees.

    Counts the newest MAX_COUNTED_MESSAGES; `is_cut` reports whether there may be more. Failed and pending messages are
    counted beyond that limit, so that a flood of messages cannot hide them.
    """
    limit = boundary.current()
    integrations = [integration] if integration is not None else limit and sorted(limit.integrations)
    integration_filter = "AND integration_id = ANY(%(integrations)s)" if integrations is not None else ""
    statement = f"""
        SELECT status, count(*) AS number FROM (
            SELECT status FROM inbound_inboundmessage WHERE id >= %(since)s {integration_filter} ORDER BY id DESC
            LIMIT %(limit)s
        ) AS newest GROUP BY status
    """
    # The partial index on failed and pending messages serves this query.
    rare = f"""
        SELECT status, count(*) AS number FROM (
            SELECT status FROM inbound_inboundmessage
            WHERE status IN ('Mapping Failed', 'Pending') AND id >= %(since)s {integration_filter} LIMIT %(limit)s
        ) AS rare GROUP BY status
    """
    values: dict[str, object] = {
        "since": first_uuid7(now - DAY),
        "integrations": integrations,
        "limit": MAX_COUNTED_MESSAGES,
    }
    with viewer_transaction() as connection:
        counts = {
            row["status"]: row["number"] for row in database.rows(connection, database.literal(statement), values)
        }
        if is_cut(counts.items()):
            rare_counts = database.rows(connection, database.literal(rare), values)
            counts |= {row["status"]: row["number"] for row in rare_counts}
    return [(str(status), counts[status]) for status in MessageStatus if status in counts]


def is_cut(counts: Iterable[tuple[str, int]]) -> bool:
    """Return whether the counts are probably incomplete, because only the newest messages were counted."""
    return sum(number for _status, number in counts) >= MAX_COUNTED_MESSAGES


def messages_today(now: datetime, integrations: Sequence[int]) -> dict[int, tuple[int, datetime]]:
    """Return {integration: (messages in 24 h, newest receive time)}. The number is at most MAX_COUNTED_MESSAGES + 1."""
    # This ORDER BY forces the index on (integration_id, id). With an equality condition the planner assumes that most
    # rows belong to the integration and scans all rows for an integration that has none.
    statement = """
        SELECT requested.id, today.number, newest.received_at AS newest
        FROM unnest(%(integrations)s::bigint[]) AS requested (id) CROSS JOIN LATERAL (
            SELECT count(*) AS number, (array_agg(id))[1] AS newest FROM (
                SELECT id FROM inbound_inboundmessage
                WHERE (integration_id, id) >= (requested.id, %(since)s) AND integration_id <= requested.id
                ORDER BY integration_id DESC, id DESC LIMIT %(limit)s
            ) AS newest_ones
        ) AS today JOIN inbound_inboundmessage newest ON newest.id = today.newest
    """
    values = {"integrations": list(integrations), "since": first_uuid7(now - DAY), "limit": MAX_COUNTED_MESSAGES + 1}
    with viewer_transaction() as connection:
        return {row["id"]: (row["number"], row["newest"]) for row in database.rows(connection, statement, values)}


def integrations_with_messages(integrations: Sequence[int]) -> set[int]:
    """Return the integrations that have at least one message within the retention period."""
    # The ORDER BY forces the index on (integration_id, id), as in messages_today.
    statement = """
        SELECT requested.id FROM unnest(%(integrations)s::bigint[]) AS requested (id) CROSS JOIN LATERAL (
            SELECT integration_id FROM inbound_inboundmessage
            WHERE integration_id >= requested.id ORDER BY integration_id, id LIMIT 1
        ) AS nearest WHERE nearest.integration_id = requested.id
    """
    if not integrations:
        return set()
    with viewer_transaction() as connection:
        rows = database.rows(connection, statement, {"integrations": list(integrations)})
    return {row["id"] for row in rows}


PAGE_SIZE = 100
#: A shorter list has no filter.
MIN_FILTERED_ROWS = 10
_LAYOUT = "parts/object_list.html"


@dataclass(frozen=True, slots=True)
class ObjectList[M: Model]:
    """The list page of one kind. Its labels are lazy translations."""

    resource: Resource[M]
    #: The template of the table, for the context variable `rows`.
    rows_template: str
    #: What a list without objects says, and an icon.
    empty_title: Any = ""
    empty_text: Any = ""
    icon: str = "inbox"
    #: The URL name and the label of the form that adds an object; "" if the page itself offers it.
    add_view: str = ""
    add_label: Any = ""
    #: The heading, unless it is the plural.
    title: Any = ""
    #: A template that extends the common one.
    template: str = _LAYOUT
    #: The live events that update the list, and whether it is also read again every minute.
    live: str = ""
    is_polled: bool = False

    def matching(self, request: SignedInRequest, rows: QuerySet[M] | None = None) -> QuerySet[M]:
        """Return the objects whose name contains the filter, in their usual order; of `rows` if given."""
        text = _filter_text(request)
        found = self.resource.rows() if rows is None else rows
        if not found.ordered:
            # An annotation that counts drops the order of the model.
            found = found.order_by(*found.model._meta.ordering or ("pk",))
        return found.filter(self.resource.search(text)) if text else found

    def render[R](
        self,
        request: SignedInRequest,
        rows: QuerySet[M] | Sequence[R],
        cells: Callable[[Sequence[Any]], Iterable[object]] = lambda rows: rows,
        **context: object,
    ) -> HttpResponse:
        """Render one page of `rows`. `cells` returns what the template needs for the rows of that page."""
        page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
        may_add = self._may_add(request)
        text = _filter_text(request)
        context = {
            "list": self,
            "title": self.title or _(self.resource.plural),
            "rows": list(cells(list(page.object_list))),
            "page": page,
            "text": text,
            "has_filter": bool(text) or page.paginator.count > MIN_FILTERED_ROWS,
            "may_add": may_add,
            "add_url": reverse(self.add_view) if may_add and self.add_view else "",
            **context,
        }
        if self.live and request.headers.get(PARTIAL_HEADER) == "list":
            return render_view(request, _LAYOUT, context, partials=("list",))
        return render_view(request, self.template, context)

    def _may_add(self, request: SignedInRequest) -> bool:
        if self.resource.owner == "pk":
            # A new group has no owner yet.
            return may(request, self.resource.change_permission)
        return may_somewhere(request, self.resource.change_permission)


def _filter_text(request: SignedInRequest) -> str:
    return request.GET.get("q", "").strip()
