"""Phone calls: the calls of hotlines now and past, and the routes of the numbers that Tocsin answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from tocsin.calls.history import recordings, send_recording, summarize_calls
from tocsin.calls.models import CallRoute, PhoneCall
from tocsin.calls.routes import call_for_test
from tocsin.calls.states import CallOutcome, Cause, LegStatus
from tocsin.core.errors import Rejected
from tocsin.core.reasons import local_term, translatable
from tocsin.notify.channels.phone import format_for_display
from tocsin.resources.registry import CALL_ROUTES
from tocsin.web.http.request import SignedInRequest, find_editable, find_row, may_somewhere, render_view, reporting
from tocsin.web.ui import object_list
from tocsin.web.ui.confirm_delete import ObjectPage
from tocsin.web.ui.forms import CodeField, SpecForm, field_error_text, problems_of, show_rejection
from tocsin.web.ui.object_list import ObjectList

# ---------- form

#: What a key chooses, by its key in the spec.
_WORDS: Mapping[str, str] = {
    "group": translatable("group"),
    "escalation_policy": translatable("policy"),
    "client": translatable("client"),
    "voicemail": translatable("voicemail"),
    "sentence": translatable("sentence"),
}

_LINE = re.compile(r"\s*(?P<key>[0-9]{1,4})\s*=\s*(?P<word>[^:|]+?)\s*(?::(?P<value>[^|]*))?(?:\|(?P<label>.*))?")


class MenuField(CodeField):
    """The menu, one key a line, in the words of the page's language or in English; the cleaned value is that of the
    spec."""

    def prepare_value(self, value: Any) -> Any:
        """Return the lines."""
        return "\n".join(map(_line_of, value)) if isinstance(value, list | tuple) else value

    def to_python(self, value: Any) -> Any:
        """Return the entries. Raises ValidationError, naming the line."""
        keys = {word.casefold(): key for key, text in _WORDS.items() for word in (key, text, local_term(text))}
        entries: list[dict[str, Any]] = []
        for line in filter(str.strip, str(value or "").splitlines()):
            match = _LINE.fullmatch(line)
            key = keys.get(match["word"].casefold()) if match else None
            text = (match["value"] or "").strip() if match else ""
            if match is None or key is None or bool(text) is (key == "voicemail"):
                raise forms.ValidationError(
                    _("“%(line)s” is not valid. Use %(example)s.")
                    % {"line": line.strip()[:60], "example": _line_of(_EXAMPLE[0])}
                )
            label = (match["label"] or "").strip()
            entries.append({"key": int(match["key"]), key: text or True, **({"label": label} if label else {})})
        return entries


_EXAMPLE: tuple[Mapping[str, Any], ...] = (
    {"key": 1, "group": "Network", "label": "network problems"},
    {"key": 2, "client": "Acme", "label": "Acme"},
    {"key": 9, "voicemail": True, "label": "everything else"},
)


def _line_of(entry: Mapping[str, Any]) -> str:
    key = next(key for key in _WORDS if entry.get(key))
    value = "" if entry[key] is True else f": {entry[key]}"
    label = f" | {entry['label']}" if entry.get("label") else ""
    return f"{entry['key']} = {local_term(_WORDS[key])}{value}{label}"


class CallRouteForm(SpecForm):
    """A call route. Its menu is entered as lines."""

    menu = MenuField(rows=5)
    layout = ("name group", "numbers provider")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["menu"].help_text = _(
            "One key a line: what it chooses, and after | what callers hear. Without a menu, everyone reaches the "
            "people above."
        )
        self.fields["menu"].widget.attrs["placeholder"] = "\n".join(map(_line_of, _EXAMPLE))

    def show(self, rejected: Rejected) -> None:
        """Name the key in each problem of the menu."""
        for problem in problems_of(rejected):
            match = re.match(r"menu\[(\d+)\]", problem.field or "")
            if match is None:
                show_rejection(self, problem)
            else:
                entry = self.cleaned_data["menu"][int(match[1])]
                self.add_error("menu", f"{_('Key')} {entry['key']}: {field_error_text(problem)}")


# ---------- pages

_ROUTES = ObjectList(
    CALL_ROUTES,
    rows_template="calls/route_rows.html",
    empty_title=gettext_lazy("No call routes yet"),
    empty_text=gettext_lazy(
        "A call route answers your hotline's number and connects callers to the person on call. What no one takes "
        "becomes an alert, with the voicemail."
    ),
    icon="phone-call",
    add_view="new_call_route",
    add_label=gettext_lazy("New route"),
    template="calls/routes.html",
)


@require_safe
def route_list(request: SignedInRequest) -> HttpResponse:
    """Render every route with its numbers and whom they reach."""
    return _ROUTES.render(request, _ROUTES.matching(request), CALL_ROUTES.with_references)


class CallRoutePage(ObjectPage[CallRoute]):
    """The form of a route."""

    template = "calls/route.html"
    form_type = CallRouteForm
    new_title = gettext_lazy("New call route")
    saved = gettext_lazy("%(name)s saved.")


edit_route = CallRoutePage(_ROUTES)


@require_POST
def test_call(request: SignedInRequest, number: int) -> HttpResponse:
    """Call the user, who then is a caller of the route."""
    route = find_editable(request, CALL_ROUTES, number)
    with reporting(request, route.name):
        phone = format_for_display(call_for_test(route, request.user.pk))
        messages.success(request, _("%(number)s rings now. Pick up: you are the caller.") % {"number": phone})
    return redirect("call_route", number)


# ---------- calls

#: By the outcome of a call: its label, and the style of its chip.
OUTCOMES: Mapping[str, tuple[Any, str]] = {
    CallOutcome.ANSWERED: (gettext_lazy("answered"), "ok"),
    CallOutcome.MISSED: (gettext_lazy("missed"), "now"),
    CallOutcome.VOICEMAIL: (gettext_lazy("voicemail"), "wait"),
    CallOutcome.INFORMED: (gettext_lazy("informed"), "quiet"),
    CallOutcome.BLOCKED: (gettext_lazy("blocked"), "quiet"),
    "": (gettext_lazy("in progress"), "wait"),
}

#: Why no one took a call.
_CAUSES: Mapping[str, Any] = {
    Cause.CALLER_HUNG_UP: gettext_lazy("The caller hung up."),
    Cause.NOBODY_ON_CALL: gettext_lazy("No one was on call with a phone number."),
    Cause.NOBODY_ANSWERED: gettext_lazy("No one answered."),
    Cause.ALL_FAILED: gettext_lazy("The provider could not ring anyone."),
    Cause.OUTSIDE_HOURS: gettext_lazy("Outside the support hours."),
    Cause.CHOSEN: gettext_lazy("The caller chose it in the menu."),
    Cause.NO_CHOICE: gettext_lazy("The caller chose nothing in the menu."),
    Cause.PROVIDER_SILENT: gettext_lazy("The provider reported nothing more."),
    Cause.UNREACHABLE: gettext_lazy("Tocsin did not answer the provider, which took a message."),
    Cause.BLOCKED: gettext_lazy("The route blocks the number."),
    Cause.LOOP: gettext_lazy("A phone that was rung forwards its calls to this number."),
}

#: What became of the ring of a person.
_LEGS: Mapping[str, tuple[Any, str]] = {
    LegStatus.RINGING: (gettext_lazy("ringing"), "wait"),
    LegStatus.ASKED: (gettext_lazy("picked up"), "wait"),
    LegStatus.ACCEPTED: (gettext_lazy("took the call"), "ok"),
    LegStatus.DECLINED: (gettext_lazy("declined"), "quiet"),
    LegStatus.BUSY: (gettext_lazy("busy"), "quiet"),
    LegStatus.MACHINE: (gettext_lazy("a machine answered"), "quiet"),
    LegStatus.NO_ANSWER: (gettext_lazy("no answer"), "quiet"),
    LegStatus.FAILED: (gettext_lazy("failed"), "now"),
    LegStatus.CANCELLED: (gettext_lazy("cancelled"), "quiet"),
    LegStatus.LATE: (gettext_lazy("too late"), "quiet"),
}

#: The days that the figures of the list are about.
_DAYS = 30


@require_safe
def call_list(request: SignedInRequest) -> HttpResponse:
    """Render the calls, newest first, those in progress included, with their figures of the last days."""
    outcome = request.GET.get("show", "")
    calls = PhoneCall.objects.defer("recording", "state").select_related("answered_by")
    page = object_list.paginate_by_number(
        [calls.filter(outcome=outcome) if outcome else calls], request.GET.get("cursor", "")
    )
    figures = summarize_calls(request.now - timedelta(days=_DAYS))
    tabs = [("", gettext_lazy("All")), *((str(key), OUTCOMES[key][0]) for key in CallOutcome if key in _TABS)]
    context = {
        "tabs": tabs,
        "show": outcome,
        "calls": [(call, *OUTCOMES[call.outcome]) for call in page.rows],
        "pagination": page,
        "figures": figures,
        "days": _DAYS,
        "has_routes": CallRoute.objects.exists(),
        "may_add": may_somewhere(request, CALL_ROUTES.change_permission),
    }
    return render_view(request, "calls/list.html", context, partials=("list",))


_TABS = (CallOutcome.ANSWERED, CallOutcome.MISSED, CallOutcome.VOICEMAIL)


@require_safe
def call(request: SignedInRequest, number: int) -> HttpResponse:
    """Render a call with every ring."""
    rows = PhoneCall.objects.defer("recording", "state").select_related("route", "answered_by")
    row = find_row(rows, number, "phone call")
    context = {
        "call": row,
        "outcome": OUTCOMES[row.outcome],
        "cause": _CAUSES.get(row.cause, ""),
        "legs": [(leg, *_LEGS[leg.status]) for leg in row.legs.select_related("user")],
        "seconds": (row.ended_at - row.started_at).total_seconds() if row.ended_at else None,
        "waited": (row.answered_at - row.started_at).total_seconds() if row.answered_at else None,
        "has_recording": recordings(number).exists(),
        "may_open_route": row.route_id is not None and may_somewhere(request, CALL_ROUTES.change_permission),
    }
    return render_view(request, "calls/call.html", context, partials=("call",))


@require_safe
def recording(request: SignedInRequest, number: int) -> HttpResponse:
    """Return a recording, or the part of it that the browser asks for."""
    return send_recording(find_row(recordings(number), number, "phone call"), request.headers.get("Range", ""))
