"""The wall board: what needs somebody and who is on call, large, for a screen that nobody touches. Reads only."""

from __future__ import annotations

from django.http import HttpResponse
from django.views.decorators.http import require_safe

from tocsin.alerts.models import Alert
from tocsin.web.alerts import lists
from tocsin.web.home import overview
from tocsin.web.request import Request, page

#: What fits a screen across the room.
ROWS = 12


@require_safe
def wall(request: Request) -> HttpResponse:
    """The open alerts first, then the acknowledged, then those that somebody has."""
    rows: list[Alert] = []
    for tab in ("open", "acknowledged", "assigned"):
        rows += lists.of_tab(tab).order_by("-pk")[: max(0, ROWS - len(rows))]
    context = {
        "tabs": [tab for tab in lists.tabs("") if tab.count is not None],
        "rows": lists.rows_of(rows, request.now),
        "groups": overview.duties(request.now),
    }
    return page(request, "wall/wall.html", context, parts=("board", "oncall", "paused"))
