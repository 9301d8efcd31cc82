"""The user's profile: contact methods, pages received, preferences, passwords and keys."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access.roles import Permission
from tocsin.core.errors import Rejected
from tocsin.notify.models import Notification
from tocsin.people import notification_rules
from tocsin.people.changes import preferences, users
from tocsin.people.models import ContactMethod, User
from tocsin.web.http.authorization import actor, may
from tocsin.web.http.objects import find_row, requested_user
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.me import shifts, verify_contact
from tocsin.web.me.forms import ContactMethodForm, PreferencesForm, initial_of
from tocsin.web.me.notification_rules import notification_previews
from tocsin.web.me.tokens import active_tokens
from tocsin.web.push.views import is_push_only
from tocsin.web.ui import pagination
from tocsin.web.ui.choices import channel_name
from tocsin.web.ui.edit_conflicts import FormSnapshot
from tocsin.web.ui.forms import show_rejection

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
        "links": user.identities.select_related("provider"),
        "tokens": active_tokens(user, request.now),
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
    """Create or edit a contact method, of the user or as an administrator of another one."""
    method = _find(request, number) if number is not None else None
    owner = method.user if method else requested_user(request)
    form = ContactMethodForm(request.POST or None, initial=initial_of(method) if method else None)
    # An administrator may change it concurrently by the API or a file. The audit log records contact methods as the
    # user's.
    state = partial(users.contact_method_spec, method) if method else None
    snapshot = FormSnapshot(request, "user", owner.pk, state, row=method)
    if request.method == "POST" and form.is_valid():
        try:
            with snapshot.unchanged():
                saved = users.save_contact_method(
                    owner, form.spec(), existing=method, actor=actor(request), now=request.now
                )
        except Rejected as rejected:
            show_rejection(form, rejected, {"repeat.every": "repeat_every", "repeat.times": "repeat_times"})
        else:
            if owner != request.user:
                messages.success(request, _saved_for_other(saved))
                return _back(request, owner)
            if saved.awaits_code:
                verify_contact.send(request, saved)
                return redirect("confirm_contact_method", saved.pk)
            messages.success(request, _("Saved. Use “Send test” to check it."))
            return redirect("me")
    context = {"form": form, "method": method, "owner": owner, "snapshot": snapshot}
    return render_view(request, "me/contact_method.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def delete_contact_method(request: SignedInRequest, number: int) -> HttpResponse:
    """Ask for confirmation, describing the consequences; then delete the contact method."""
    method = _find(request, number)
    if request.method != "POST":
        back = ("contact_method", method.pk)
        about = " ".join(_deletion_consequences(method.user, method))
        return render_view(
            request, "parts/delete.html", {"object_name": method.label, "consequences": about, "back": back}
        )
    users.delete_contact_method(method, actor=actor(request), now=request.now)
    messages.success(request, _("%(label)s deleted.") % {"label": method.label})
    return _back(request, method.user)


def _deletion_consequences(user: User, method: ContactMethod) -> Iterator[str]:
    """Yield the consequences of deleting the contact method."""
    other_methods = user.contact_methods.filter(is_enabled=True).exclude(pk=method.pk)
    if method.is_enabled and not other_methods.exists():
        if user.push_devices.filter(gone_at=None).exists():
            yield _("Push will be the only contact method. It can't reach a silenced phone.")
        else:
            text = _(
                "This is the last contact method. %(name)s can't be paged without it; others will be paged instead."
            )
            yield text % {"name": user.display_name}
    if method.label.casefold() in notification_rules.labels(notification_rules.load(user.notification_rules)):
        yield _("It is used in notification rules. Those rules and quiet hours are deleted too.")
    yield _("Messages already being sent may still arrive.")


@require_POST
def move_contact_method(request: SignedInRequest, number: int) -> HttpResponse:
    """Move a contact method up or down. The order decides among contact methods with the same delay."""
    places = 1 if request.POST.get("to") == "down" else -1
    method = _find(request, number)
    users.move_contact_method(method, places, actor=actor(request), now=request.now)
    return _back(request, method.user)


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
    rows = ContactMethod.objects.select_related("user")
    if not may(request, Permission.ADMINISTER):
        rows = rows.filter(user=request.user)
    return find_row(rows, number, "contact method")


def _saved_for_other(method: ContactMethod) -> str:
    text = _("Saved. It is not used until %(name)s verifies it.") if method.awaits_code else _("Saved for %(name)s.")
    return text % {"name": method.user.display_name}


def _back(request: SignedInRequest, owner: User) -> HttpResponse:
    return redirect("me") if owner == request.user else redirect("user", owner.pk)
