"""Handover notes: those of a schedule, and one note with its text, its facts and "Send now"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.core.errors import Rejected
from tocsin.oncall.models import HandoverNote
from tocsin.people.models import User
from tocsin.reports import handover as notes
from tocsin.reports.handover import MAX_TEXT_CHARS, SeenNote
from tocsin.resources.registry import SCHEDULES
from tocsin.web.http.request import SignedInRequest, find_object, find_row, render_view
from tocsin.web.ui.forms import show_rejection, user_zone

#: Maximum number of notes in the list.
MAX_NOTES = 100


class HandoverNoteForm(forms.Form):
    """The text above the facts."""

    text = forms.CharField(
        label=gettext_lazy("Your note"),
        required=False,
        max_length=MAX_TEXT_CHARS,
        widget=forms.Textarea(attrs={"rows": 6}),
        help_text=gettext_lazy("Shown above the details."),
    )
    #: When the note was last edited before the form was shown.
    seen = forms.DateTimeField(required=False, widget=forms.HiddenInput)


@dataclass(frozen=True, slots=True)
class HandoverRow:
    """A note with the names of its users."""

    note: HandoverNote
    outgoing: list[str]
    incoming: list[str]


@require_safe
def schedule_handovers(request: SignedInRequest, number: int) -> HttpResponse:
    """Render the handover notes of a schedule, newest first."""
    schedule = find_object(SCHEDULES, number)
    rows = HandoverNote.objects.filter(schedule=schedule).select_related("schedule")[:MAX_NOTES]
    context = {"schedule": schedule, "notes": named_notes(rows), "zone": user_zone().key}
    return render_view(request, "oncall/handovers.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def handover(request: SignedInRequest, number: int) -> HttpResponse:
    """Render a handover note; save its text."""
    note = _find(number)
    viewer = request.viewer
    may_edit = note.sent_at is None and notes.may_edit(note, viewer)
    form = HandoverNoteForm(request.POST or None, initial={"text": note.text})
    other_text = ""
    if request.method == "POST" and form.is_valid():
        try:
            notes.save_text(note, form.cleaned_data["text"], viewer, request.now, SeenNote(form.cleaned_data["seen"]))
        except Rejected as rejected:
            _deny(rejected)
            show_rejection(form, rejected)
            if rejected.code == "changed_meanwhile":
                other_text = note.text
        else:
            messages.success(request, _("Saved."))
            return redirect("handover", note.pk)
    (row,) = named_notes([note])
    # After a conflict the user has seen the other text, so that a second save replaces it.
    seen = form["seen"].value() if form.is_bound and not other_text else note.edited_at
    context = {
        "row": row,
        "note": note,
        "form": form if may_edit else None,
        "seen": seen.isoformat() if isinstance(seen, datetime) else seen,
        "other_text": other_text,
        "facts": notes.current_facts(note, request.now),
        "zone": user_zone().key,
    }
    return render_view(request, "oncall/handover.html", context, status=422 if form.errors else 200)


@require_POST
def send(request: SignedInRequest, number: int) -> HttpResponse:
    """Mail a note before its handover."""
    note = _find(number)
    try:
        notes.send_now(note, request.viewer, request.now)
    except Rejected as rejected:
        _deny(rejected)
        messages.error(request, rejected.reason.localized())
    else:
        messages.success(request, _("Handover note sent."))
    return redirect("handover", note.pk)


def named_notes(rows: Iterable[HandoverNote]) -> list[HandoverRow]:
    """Return the notes with the names of their users."""
    loaded = list(rows)
    people = notes.people_of(loaded)
    return [HandoverRow(note, _names(note.outgoing, people), _names(note.incoming, people)) for note in loaded]


def _find(number: int) -> HandoverNote:
    return find_row(HandoverNote.objects.select_related("schedule__group", "edited_by"), number, "handover note")


def _deny(rejected: Rejected) -> None:
    if rejected.code == "forbidden":
        raise PermissionDenied(rejected.reason.localized()) from rejected


def _names(user_ids: Iterable[int], people: Mapping[int, User]) -> list[str]:
    return [people[user_id].display_name for user_id in user_ids if user_id in people]
