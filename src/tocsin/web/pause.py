"""Pausing all paging."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access.roles import Permission
from tocsin.core.errors import Rejected
from tocsin.notify import pause as pauses
from tocsin.notify.models import Pause
from tocsin.web.http.request import SignedInRequest, actor, render_view, requires
from tocsin.web.ui.forms import MomentField, show_rejection

# ---------- views
# Pausing all paging: reason, end, and ending it early. For administrators.


class PauseForm(forms.Form):
    """The reason, and when the pause ends automatically."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"), max_length=500, help_text=gettext_lazy("Shown to everyone on every page.")
    )
    until = MomentField(
        label=gettext_lazy("Until"),
        help_text=gettext_lazy(
            "In your time zone, at most seven days ahead. Escalation then resumes with the due step."
        ),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.ADMINISTER)
def pause(request: SignedInRequest) -> HttpResponse:
    """Show whether paging is paused; pause it."""
    begin: dict[str, Any] = {"until": timezone.localtime(request.now + timedelta(hours=2))}
    form = PauseForm(request.POST or None, initial=begin)
    if request.method == "POST" and form.is_valid():
        try:
            pauses.start(form.cleaned_data["reason"], form.cleaned_data["until"], actor(request), request.now)
        except Rejected as rejected:
            show_rejection(form, rejected)
        else:
            messages.success(request, _("All paging is paused. Alerts are still created; their pages are held."))
            return redirect("pause")
    current = Pause.objects.filter(ended_at=None, until__gt=request.now).select_related("user").first()
    ended = Pause.objects.exclude(ended_at=None, until__gt=request.now).select_related("user").order_by("-pk")[:10]
    context = {"form": form, "current_pause": current, "past": ended}
    return render_view(request, "pause/pause.html", context, status=422 if form.errors else 200)


@require_safe
def banners(request: SignedInRequest) -> HttpResponse:
    """Render the banners shown above every view. Open views reload them when a pause starts or ends."""
    return render_view(request, "parts/banners.html", {})


@require_POST
@requires(Permission.ADMINISTER)
def end(request: SignedInRequest) -> HttpResponse:
    """End the pause now."""
    if pauses.end(actor(request), request.now):
        messages.success(request, _("Paging resumed. Held pages are sent now."))
    return redirect("pause")
