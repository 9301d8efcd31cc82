"""Home: the user's alerts, the most urgent alerts, who is on call and can be woken, message outcomes, problems and
setup steps."""

from __future__ import annotations

from django.http import HttpResponse
from django.views.decorators.http import require_safe

from tocsin.access.roles import Role
from tocsin.inbound.maintenance import commands as maintenance_windows
from tocsin.web.alerts import queries
from tocsin.web.groups import on_call_now
from tocsin.web.home import first_steps, health_warnings, overview
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.oncall import readiness, swaps
from tocsin.web.ui import capped_counts

MAX_ROWS = 8


@require_safe
def home(request: SignedInRequest) -> HttpResponse:
    """Render the start view."""
    own_alerts = list(overview.alerts_of(request.user, MAX_ROWS))
    newest = queries.newest_needing_answer()
    rows = queries.rows_of([*own_alerts, *queries.most_urgent(newest, MAX_ROWS)], request.now)
    steps = first_steps.setup_steps(request.user) if request.user.role == Role.ADMIN else []
    outcomes = capped_counts.outcomes(request.now)
    on_call_soon = readiness.on_call_soon(request.now)
    not_ready = [row for row in on_call_soon if not row.first.is_ready]
    context = {
        "my_alerts": rows[: len(own_alerts)],
        "open_rows": rows[len(own_alerts) :],
        # Of the shell, which would count again.
        "open_count": len(newest),
        "groups": on_call_now.duties(request.now),
        "not_ready": not_ready[:MAX_ROWS],
        "not_ready_count": len(not_ready),
        "ready_count": len(on_call_soon) - len(not_ready),
        "on_call_count": len(on_call_soon),
        "pending_methods": request.user.contact_methods.filter(awaits_code=True),
        "outcomes": outcomes,
        "outcomes_are_cut": capped_counts.is_cut(outcomes),
        "swap_requests": swaps.requests_received(request.user, request.now),
        "night": overview.last_night(request.user, request.now),
        "active_windows": maintenance_windows.active_windows(request.now),
        "health_warnings": health_warnings.find_warnings(request.now)
        if request.user.role in (Role.ADMIN, Role.MANAGER)
        else [],
        "sees_health": request.user.role in (Role.ADMIN, Role.MANAGER),
        "steps": steps,
        "step_count": len(steps),
        "steps_done": sum(step.is_done for step in steps),
        "next_step": next((step for step in steps if not step.is_done), None),
    }
    return render_view(
        request, "home/home.html", context, partials=("alerts", "incoming", "health", "oncall", "readiness")
    )
