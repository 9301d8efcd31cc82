"""The signed links in messages: an alert with one button per action, or all alerts that paged the user. No sign-in.

A GET never changes anything, so link scanners are harmless. A POST acts as the user for whom the link was signed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from tocsin.access import boundary
from tocsin.alerts import service
from tocsin.alerts.service import VisibleAlert, find_alerts
from tocsin.alerts.states import CommandChannel, CommandKind
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.notify.inbound import responder_actions
from tocsin.notify.text import signed_links
from tocsin.notify.text.signed_links import LinkSubject
from tocsin.people import permissions
from tocsin.people.models import User
from tocsin.people.permissions import Viewer
from tocsin.resources import visibility
from tocsin.web.alerts import queries
from tocsin.web.alerts.detail import alert_context, read_command, rejection_text, typed_text
from tocsin.web.alerts.views import done_text
from tocsin.web.http.authorization import alert_actor, may_respond, require_response
from tocsin.web.http.middleware import zone
from tocsin.web.http.objects import find_visible_alert
from tocsin.web.http.request import SignedInRequest

#: Commands available through the link. All others require signing in.
LINK_COMMANDS = (
    CommandKind.ACKNOWLEDGE,
    CommandKind.ASSIGN,
    CommandKind.ESCALATE,
    CommandKind.HOLD,
    CommandKind.REPLY,
    CommandKind.CLOSE,
    CommandKind.UNDO,
)


@login_not_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def signed_link(request: SignedInRequest, token: str) -> HttpResponse:
    """Render the alert, or run the posted command."""
    try:
        alert_id, user_id = _verify(token, request.now)
    except Rejected as rejected:
        expired = {"reason": rejected.reason.localized(), "unsaved_text": typed_text(request)}
        return render(request, "alerts/link_expired.html", expired, status=410)
    user = User.objects.filter(pk=user_id, is_active=True).first()
    if user is None:
        return render(request, "alerts/link_expired.html", {"reason": "", "may_not_act": True}, status=403)
    boundary.enter(visibility.boundary_of_user(user))
    viewer = permissions.viewer(user, None)
    if alert_id is None:
        with timezone.override(zone(user.time_zone)):
            return _all_that_paged(request, token, user, viewer)
    with database.transaction() as connection:
        number = responder_actions.resolve_merged(connection, alert_id)
    try:
        alert = require_response(viewer, find_visible_alert(number))
    except PermissionDenied:
        return render(request, "alerts/link_expired.html", {"reason": "", "may_not_act": True}, status=403)
    with timezone.override(zone(user.time_zone)):
        if request.method == "POST":
            _act(request, alert, user)
            return redirect("signed_link", token)
        context = {**alert_context(request, number, user, viewer), "person": user, "token": token, "hide_nav": True}
        # The link shows only people of the alert's groups, not the whole directory.
        context["assignees"] = context["assignees"][:2]
        context["merged"] = alert_id if alert_id != number else None
        return render(request, "alerts/signed_link.html", context)


def _verify(token: str, now: datetime) -> tuple[int | None, int]:
    """Returns the alert and the user of a token; no alert in the link of several. Raises Rejected."""
    try:
        return signed_links.verify(token, now)
    except Rejected as rejected:
        if rejected.code == "expired_link":
            raise
    return None, signed_links.verify(token, now, LinkSubject.PAGED)[1]


def _all_that_paged(request: SignedInRequest, token: str, user: User, viewer: Viewer) -> HttpResponse:
    """The link of a bundled message: every active alert that paged the user, and one button for all of them."""
    with database.transaction() as connection:
        numbers = responder_actions.open_for(connection, user.pk, request.now)
    alerts = [alert for alert in find_alerts(numbers) if may_respond(viewer, alert)]
    if request.method == "POST":
        _act_on_all(request, [alert for alert in alerts if str(alert.id) in request.POST.getlist("alert")], user)
        return redirect("signed_link", token)
    rows = [
        (row, signed_links.path(signed_links.sign(row.alert.pk, user.pk, request.now)))
        for row in queries.rows_of([alert.row for alert in alerts], request.now)
    ]
    context = {"rows": rows, "person": user, "hide_nav": True}
    return render(request, "alerts/signed_list.html", context)


def _act_on_all(request: SignedInRequest, alerts: Sequence[VisibleAlert], user: User) -> None:
    kind = request.POST.get("command", "")
    if kind not in (CommandKind.ACKNOWLEDGE, CommandKind.ASSIGN):
        messages.warning(request, _("Choose one of the buttons."))
        return
    command = read_command(request, CommandKind(kind), alert_actor(user), CommandChannel.EMAIL)
    outcomes = service.apply_command_to_many(alerts, command, now=request.now)
    done_count = sum(not isinstance(outcome, Rejected) for outcome in outcomes)
    messages.success(request, done_text(kind, done_count))


def _act(request: SignedInRequest, alert: VisibleAlert, user: User) -> None:
    kind = request.POST.get("command", "")
    if kind not in LINK_COMMANDS:
        messages.warning(request, _("Choose one of the buttons."))
        return
    try:
        alert_command = read_command(request, CommandKind(kind), alert_actor(user), CommandChannel.EMAIL)
        outcome = service.apply_command(alert, alert_command, now=request.now)
    except Rejected as rejected:
        messages.warning(request, rejection_text(request, rejected))
    else:
        messages.success(request, outcome.answer.localized())
