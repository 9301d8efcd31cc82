"""The list page of a kind of configurable object: its filter by name, its pages, and the button that adds an object.

What a row shows is the kind's own; everything else comes from the Resource.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from tocsin.resources.resource import Resource
from tocsin.web.http.authorization import may, may_somewhere
from tocsin.web.http.request import PARTIAL_HEADER, SignedInRequest, render_view

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
