"""The view that asks for confirmation before it deletes an object.

It shows what still refers to the object, what else ends with it, concurrent changes and the reason for a rejection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from tocsin.core.errors import Rejected
from tocsin.resources import registry
from tocsin.resources.resource import Resource
from tocsin.web.http.authorization import View, actor, requires
from tocsin.web.http.objects import find_editable
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.ui import references
from tocsin.web.ui.edit_conflicts import FormSnapshot

#: What happens to dependent objects.
CONSEQUENCES: Mapping[str, Any] = {
    registry.USERS.key: gettext_lazy(
        "What they did stays on record under their name. Switching them off is enough to end sign-in."
    ),
    registry.GROUPS.key: gettext_lazy("Its members stay; only the group goes."),
    registry.HOLIDAY_CALENDARS.key: gettext_lazy("Take it out of what needs it first, and delete it then."),
    registry.SCHEDULES.key: gettext_lazy(
        "Its overrides go with it. Whoever has a role in the group is on call again, in the order of the group."
    ),
    registry.SUPPORT_HOURS.key: gettext_lazy("Take them out of what needs them first, and delete them then."),
    registry.POLICIES.key: gettext_lazy("Alerts at which it works go on with it to their end."),
    registry.CLIENT_TABLES.key: gettext_lazy("Alerts that are open keep their recipients."),
    registry.OUTBOUND_INTEGRATIONS.key: gettext_lazy(
        "What waits is not sent any more, and its log goes. A webhook in Halo stays there."
    ),
    registry.INTEGRATIONS.key: gettext_lazy(
        "Its URL ends at once, and its messages leave the log. Alerts that it opened stay."
    ),
    registry.MAINTENANCE_WINDOWS.key: gettext_lazy("What waits for its end opens now."),
    registry.WORKFLOWS.key: gettext_lazy("What it waits to do is not done any more, and its log goes with it."),
    registry.PROVIDERS.key: gettext_lazy(
        "What waits goes by the next provider of its channel, or into the sandbox if there is none."
    ),
}


def delete_view(resource: Resource[Any]) -> View:
    """Return the view that deletes an object of this kind."""

    @require_http_methods(["GET", "HEAD", "POST"])
    @requires(resource.change_permission)
    def delete(request: SignedInRequest, number: int) -> HttpResponse:
        row = find_editable(request, resource, number)
        snapshot = FormSnapshot.of(request, resource, row, is_deleting=True)
        problem = ""
        if request.method == "POST":
            try:
                with snapshot.unchanged():
                    resource.delete(row, actor=actor(request), now=request.now)
            except Rejected as rejected:
                problem = rejected.reason.localized()
            else:
                messages.success(request, _("%(name)s is deleted.") % {"name": row})
                return redirect(resource.views.list)
        context = {
            "object_name": str(row),
            "problem": problem,
            "back": (resource.views.detail, number),
            "consequences": CONSEQUENCES[resource.key],
            "snapshot": snapshot,
            "used_by": references.references_to(resource.object_type, number),
        }
        return render_view(request, "parts/delete.html", context, status=409 if problem else 200)

    return delete
