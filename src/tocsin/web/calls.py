"""Phone calls: the routes of numbers that Tocsin answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django import forms
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from tocsin.calls.models import CallRoute, PhoneCall
from tocsin.calls.service import playable_type
from tocsin.core.errors import Rejected
from tocsin.core.reasons import local_term, translatable
from tocsin.resources.registry import CALL_ROUTES
from tocsin.web.http.request import SignedInRequest
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


@require_safe
def recording(request: SignedInRequest, number: int) -> HttpResponse:
    """Serve what was said on a call to those who see the call, for a player of the browser."""
    call = get_object_or_404(PhoneCall.objects.only("recording", "recording_type"), pk=number)
    if call.recording is None:
        raise Http404
    response = HttpResponse(bytes(call.recording), content_type=playable_type(call))
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response
