"""The user's profile: contact methods, pages received, preferences, passwords and keys, API tokens."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from uuid import UUID

from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access import tokens
from tocsin.access.models import ApiToken
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.notify.enqueue import contact_tests
from tocsin.notify.models import Notification
from tocsin.notify.states import DeliveryStatus, Purpose
from tocsin.people import notification_rules
from tocsin.people.changes import preferences, users
from tocsin.people.models import ContactMethod, User
from tocsin.web.http.authorization import actor
from tocsin.web.http.objects import find_row
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.me import shifts, verify_contact
from tocsin.web.me.forms import ContactMethodForm, PreferencesForm, TokenForm, initial_of
from tocsin.web.me.notification_rules import notification_previews
from tocsin.web.push.views import is_push_only
from tocsin.web.ui import pagination
from tocsin.web.ui.choices import channel_name
from tocsin.web.ui.edit_conflicts import FormSnapshot
from tocsin.web.ui.forms import show_rejection
from tocsin.web.ui.times import format_moment

#: How far ahead shifts are shown on the profile.
_SHIFT_HORIZON = timedelta(days=21)


@require_http_methods(["GET", "HEAD", "POST"])
def me(request: SignedInRequest) -> HttpResponse:
    """Render the profile; save the preferences."""
    user = request.user
    form = PreferencesForm(request.POST or None, initial=preferences.preferences_spec(user))
    if request.method == "POST" and form.is_valid() and _save_preferences(request, form):
        messages.success(request, _("Saved."))
        return redirect("me")
    context = {
        "form": form,
        "methods": [(method, channel_name(method.channel)) for method in user.contact_methods.all()],
        "memberships": user.memberships.select_related("group"),
        "shifts": shifts.shifts_of_user(user, request.now, _SHIFT_HORIZON)[:3],
        "pages": _pages(user)[:8],
        "previews": notification_previews(user, request.now),
        "tokens": ApiToken.objects.filter(user=user, revoked_at=None).order_by("-created_at"),
        "token_form": TokenForm(),
        "devices": list(user.push_devices.all()),
        "is_push_only": is_push_only(user),
    }
    return render_view(request, "me/me.html", context, status=422 if form.errors else 200)


@require_safe
def my_pages(request: SignedInRequest) -> HttpResponse:
    """Render every notification addressed to the user, to answer "Was I paged last night?"."""
    result = pagination.paginate_by_uuid(_pages(request.user), request.GET.get("cursor", ""))
    return render_view(request, "me/pages.html", {"rows": result.rows, "pagination": result})


@require_http_methods(["GET", "HEAD", "POST"])
def contact_method(request: SignedInRequest, number: int | None = None) -> HttpResponse:
    """Create or edit a contact method."""
    method = _find(request, number) if number is not None else None
    form = ContactMethodForm(request.POST or None, initial=initial_of(method) if method else None)
    # An administrator may change it concurrently by the API or a file. The audit log records contact methods as the
    # user's.
    state = partial(users.contact_method_spec, method) if method else None
    snapshot = FormSnapshot(request, "user", request.user.pk, state, row=method)
    if request.method == "POST" and form.is_valid():
        try:
            with snapshot.unchanged():
                saved = users.save_contact_method(
                    request.user, form.spec(), existing=method, actor=actor(request), now=request.now
                )
        except Rejected as rejected:
            show_rejection(form, rejected, {"repeat.every": "repeat_every", "repeat.times": "repeat_times"})
        else:
            if saved.awaits_code:
                verify_contact.send(request, saved)
                return redirect("confirm_contact_method", saved.pk)
            messages.success(request, _("Saved. Try it out with “Send test”."))
            return redirect("me")
    context = {"form": form, "method": method, "snapshot": snapshot}
    return render_view(request, "me/contact_method.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def delete_contact_method(request: SignedInRequest, number: int) -> HttpResponse:
    """Ask for confirmation, describing the consequences; then delete the contact method."""
    method = _find(request, number)
    if request.method != "POST":
        back = ("contact_method", method.pk)
        about = " ".join(_deletion_consequences(request.user, method))
        return render_view(
            request, "parts/delete.html", {"object_name": method.label, "consequences": about, "back": back}
        )
    users.delete_contact_method(method, actor=actor(request), now=request.now)
    messages.success(request, _("%(label)s is gone.") % {"label": method.label})
    return redirect("me")


def _deletion_consequences(user: User, method: ContactMethod) -> Iterator[str]:
    """Yield the consequences of deleting the contact method."""
    other_methods = user.contact_methods.filter(is_enabled=True).exclude(pk=method.pk)
    if method.is_enabled and not other_methods.exists():
        if user.push_devices.filter(gone_at=None).exists():
            yield _("Only pushes to your devices are left then: a silent phone reaches nobody.")
        else:
            yield _("It is the last way to reach you: nothing pages you then, and others are woken instead.")
    if method.label.casefold() in notification_rules.labels(notification_rules.load(user.notification_rules)):
        yield _("Your rules name it: those rows and quiet hours go with it.")
    yield _("What is on its way to it already may still arrive.")


@require_POST
def move_contact_method(request: SignedInRequest, number: int) -> HttpResponse:
    """Move a contact method up or down. The order decides among contact methods with the same delay."""
    places = 1 if request.POST.get("to") == "down" else -1
    users.move_contact_method(_find(request, number), places, actor=actor(request), now=request.now)
    return redirect("me")


@require_POST
def send_test(request: SignedInRequest, number: int) -> HttpResponse:
    """Send a test message to a contact method and show its result."""
    _find(request, number)
    try:
        with database.transaction() as connection:
            test_id = contact_tests.queue_test(connection, request.user.pk, number, request.now)
            database.notify(connection, "outbox")
    except Rejected as rejected:
        messages.error(request, rejected.reason.localized())
        return redirect("me")
    return redirect("test_result", test_id)


@require_safe
def test_result(request: SignedInRequest, notification_id: UUID) -> HttpResponse:
    """Render the result of a test: pending, sent, or the reason of its failure."""
    rows = Notification.objects.filter(pk=notification_id, user=request.user, purpose=Purpose.TEST)
    notification = rows.prefetch_related("deliveries").first()
    if notification is None:
        raise Http404(_("There is no such test."))
    delivery = next(iter(notification.deliveries.all()), None)
    is_done = delivery is not None and delivery.status not in (DeliveryStatus.QUEUED, DeliveryStatus.SENDING)
    context = {"notification": notification, "delivery": delivery, "is_done": is_done}
    return render_view(request, "me/test_result.html", context, partials=("result",))


@require_POST
def create_token(request: SignedInRequest) -> HttpResponse:
    """Create an API token. Its secret is shown once, in this response."""
    form = TokenForm(request.POST)
    if form.is_valid():
        try:
            created = tokens.create(request.user, form.cleaned_data["name"], actor=actor(request), now=request.now)
        except Rejected as rejected:
            messages.error(request, rejected.reason.localized())
            return redirect("me")
        response = render_view(request, "me/token.html", {"token": created.token, "secret": created.secret})
        response["Cache-Control"] = "no-store"
        return response
    messages.error(request, _("Say what the token is for."))
    return redirect("me")


@require_http_methods(["GET", "HEAD", "POST"])
def revoke_token(request: SignedInRequest, number: int) -> HttpResponse:
    """Ask for confirmation, showing when the token was last used; then revoke it."""
    token = find_row(ApiToken.objects.select_related("user").filter(user=request.user), number, "token")
    if request.method != "POST":
        used = format_moment(token.last_used_at, request.now) if token.last_used_at else _("never")
        about = _("Whatever sends this token is refused from then on. It was used last: %(when)s.") % {"when": used}
        return render_view(
            request, "parts/delete.html", {"object_name": token.name, "consequences": about, "back": ("me",)}
        )
    tokens.revoke(token, actor=actor(request), now=request.now)
    messages.success(request, _("The token %(name)s works no more.") % {"name": token.name})
    return redirect("me")


def _save_preferences(request: SignedInRequest, form: PreferencesForm) -> bool:
    try:
        preferences.change(request.user, form.cleaned_data, actor=actor(request), now=request.now)
    except Rejected as rejected:
        show_rejection(form, rejected)
        return False
    return True


def _pages(user: User) -> QuerySet[Notification]:
    return Notification.objects.filter(user=user).select_related("alert").prefetch_related("deliveries").order_by("-pk")


def _find(request: SignedInRequest, number: int) -> ContactMethod:
    return find_row(ContactMethod.objects.filter(user=request.user), number, "contact method")
