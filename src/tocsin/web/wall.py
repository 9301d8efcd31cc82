"""The wall board for an unattended screen."""

from __future__ import annotations

from dataclasses import replace

from django.http import HttpResponse
from django.views.decorators.http import require_safe

from tocsin.alerts.models import Alert
from tocsin.web import groups
from tocsin.web.alerts import queries
from tocsin.web.http.request import SignedInRequest, render_view

# ---------- views
# The wall board for a large unattended screen: alerts that need an answer, and who is on call. Reads only.


#: Number of rows that fit such a screen.
MAX_ROWS = 12


@require_safe
def wall(request: SignedInRequest) -> HttpResponse:
    """Render the unanswered alerts first, most urgent on top, then acknowledged and assigned ones."""
    rows: list[Alert] = queries.most_urgent(queries.newest_needing_answer(), MAX_ROWS)
    for tab in ("acknowledged", "assigned"):
        rows += queries.alerts_in_tab(tab).order_by("-pk")[: max(0, MAX_ROWS - len(rows))]
    counts = queries.active_counts()
    context = {
        "tabs": [
            replace(tab, count=counts.needing_answer) if tab.key == "open" else tab
            for tab in queries.tabs("", counts)
            if tab.count is not None
        ],
        "rows": queries.rows_of(rows, request.now),
        "groups": groups.duties_on_call_now(request.now),
    }
    return render_view(request, "wall/wall.html", context, partials=("board", "oncall", "paused"))
