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
        "Their actions stay in the audit log under their name. To block sign-in only, deactivate the user instead."
    ),
    registry.GROUPS.key: gettext_lazy("Only the group is deleted. Its members keep their accounts."),
    registry.SERVICE_ACCOUNTS.key: gettext_lazy(
        "Its tokens stop working immediately. Its actions stay in the audit log under its name."
    ),
    registry.IDENTITY_PROVIDERS.key: gettext_lazy(
        "No one can sign in with it any more. The users stay, with the roles and groups that they have now."
    ),
    registry.HOLIDAY_CALENDARS.key: gettext_lazy("Remove it from everything that uses it, then delete it."),
    registry.SCHEDULES.key: gettext_lazy(
        "Its overrides are deleted too. The members with a role in the group are on call again, in the group's order."
    ),
    registry.SUPPORT_HOURS.key: gettext_lazy("Remove them from everything that uses them, then delete them."),
    registry.POLICIES.key: gettext_lazy("Running escalations keep using this policy."),
    registry.CLIENT_TABLES.key: gettext_lazy("Open alerts keep their recipients."),
    registry.OUTBOUND_INTEGRATIONS.key: gettext_lazy(
        "Queued calls are not sent, and its log is deleted. The webhook in Halo is kept."
    ),
    registry.INTEGRATIONS.key: gettext_lazy(
        "Its webhook URL stops working immediately, and its messages are removed from the log. Its alerts are kept."
    ),
    registry.MAINTENANCE_WINDOWS.key: gettext_lazy("Held alerts are created now."),
    registry.WORKFLOWS.key: gettext_lazy("Scheduled runs are cancelled and the log is deleted."),
    registry.PROVIDERS.key: gettext_lazy(
        "Queued messages use the channel's next provider, or go to the sandbox if there is none."
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
                messages.success(request, _("%(name)s deleted.") % {"name": row})
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
