"""Calendar feeds: create, rotate and delete. The feed URL is shown once, in the response that creates it."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from tocsin.core.errors import Rejected
from tocsin.oncall.calendars import feeds as commands
from tocsin.oncall.calendars.feeds import NewFeed
from tocsin.oncall.models import CalendarFeed, FeedKind
from tocsin.resources.registry import GROUPS, SCHEDULES
from tocsin.web.http.request import SignedInRequest, actor, find_object, find_row, render_view
from tocsin.web.ui.times import format_moment


@require_POST
def create(request: SignedInRequest) -> HttpResponse:
    """Create a feed of the user's own shifts, of a group, or of a schedule."""
    kind_name, number = request.POST.get("kind", ""), request.POST.get("number", "")
    if kind_name not in list(FeedKind):
        raise Http404(_("Unknown calendar feed type."))
    kind = FeedKind(kind_name)
    object_id = int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 0
    group = find_object(GROUPS, object_id) if kind is FeedKind.GROUP else None
    schedule = find_object(SCHEDULES, object_id) if kind is FeedKind.SCHEDULE else None
    try:
        created = commands.create_feed(
            request.user, kind, group=group, schedule=schedule, actor=actor(request), now=request.now
        )
    except Rejected as rejected:
        messages.error(request, rejected.reason.localized())
        return redirect("my_shifts")
    return _render_feed(request, created)


@require_POST
def rotate(request: SignedInRequest, number: int) -> HttpResponse:
    """Replace the feed's URL. The old URL stops working at once."""
    return _render_feed(request, commands.rotate(_find(request, number), actor=actor(request), now=request.now))


@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: SignedInRequest, number: int) -> HttpResponse:
    """Ask for confirmation, showing when the feed was last read; then delete the feed."""
    feed = _find(request, number)
    if request.method != "POST":
        used = format_moment(feed.used_at, request.now) if feed.used_at else _("never")
        about = _("Subscribed calendar apps stop receiving updates. Last read: %(when)s.") % {"when": used}
        context = {"object_name": commands.name_of(feed), "consequences": about, "back": ("my_shifts",)}
        return render_view(request, "parts/delete.html", context)
    commands.delete(feed, actor=actor(request), now=request.now)
    messages.success(request, _("Calendar feed deleted."))
    return redirect("my_shifts")


def _render_feed(request: SignedInRequest, created: NewFeed) -> HttpResponse:
    response = render_view(request, "oncall/feed.html", {"name": commands.name_of(created.feed), "url": created.url})
    response["Cache-Control"] = "no-store"
    return response


def _find(request: SignedInRequest, number: int) -> CalendarFeed:
    rows = CalendarFeed.objects.select_related("group", "schedule").filter(owner=request.user)
    return find_row(rows, number, "calendar feed")
