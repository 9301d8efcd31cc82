"""The alert list, its badge in the side bar, and bulk commands."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as gettext
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access.roles import Permission
from tocsin.alerts import store
from tocsin.alerts.commands import Acknowledge, Assign, Close, Command, Hold, Undo
from tocsin.alerts.lifecycle import UNDO_WINDOW
from tocsin.alerts.models import Alert
from tocsin.alerts.service import apply_command_to_many, find_alerts
from tocsin.alerts.states import CommandChannel, CommandKind, Priority
from tocsin.core.db import queries
from tocsin.core.errors import Rejected
from tocsin.core.validation import inputs
from tocsin.escalation.commands import ManualAlert, open_alert
from tocsin.escalation.models import Policy
from tocsin.inbound.models import Integration
from tocsin.notify.channels import chat
from tocsin.people.changes import users
from tocsin.people.changes.users import MAX_ALERT_FILTERS
from tocsin.people.models import Group
from tocsin.simulate.escalation import preview
from tocsin.web.alerts import queries as alerts_queries
from tocsin.web.http.request import SignedInRequest, actor, alert_actor, may_respond, next_url, render_view, requires
from tocsin.web.integrations import views
from tocsin.web.ui import object_list
from tocsin.web.ui.forms import PRIORITIES, RecipientsForm


class AlertFilterForm(forms.Form):
    """Parses the filters of the alert list. Unusable values are ignored, so that old links keep working.

    The template renders the fields itself: that is much faster, and the list is the most frequently opened view.
    """

    integration = forms.ModelChoiceField(Integration.objects.only("name"), required=False)
    group = forms.ModelChoiceField(Group.objects.all(), required=False)
    priority = forms.ChoiceField(choices=PRIORITIES, required=False)
    client = forms.CharField(max_length=200, required=False)
    tag = forms.CharField(max_length=200, required=False)
    #: The storm to whose alerts the list is narrowed: `AlertListRow.storm_key`.
    storm = forms.CharField(max_length=40, required=False)
    sort = forms.ChoiceField(choices=[("oldest", "oldest"), ("priority", "priority")], required=False)


class NewAlertForm(RecipientsForm):
    field_order = ("subject", "priority", "client", "long_text")

    subject = forms.CharField(label=_("Title"), max_length=500)
    priority = forms.ChoiceField(label=_("Priority"), choices=PRIORITIES, initial=Priority.HIGH)
    client = forms.CharField(label=_("Client"), max_length=200, required=False)
    long_text = forms.CharField(
        label=_("Description"), max_length=20_000, required=False, widget=forms.Textarea(attrs={"rows": 5})
    )


MAX_BULK_ALERTS = store.MAX_STORM_ALERTS

#: Commands that always ask. A snooze asks until when.
_CONFIRMED = frozenset({CommandKind.CLOSE, CommandKind.HOLD})

#: How long several alerts can be snoozed.
SNOOZE_CHOICES = tuple((span, _(label)) for span, label in chat.SNOOZE_CHOICES)

#: How many of the selected alerts the question names.
_MAX_NAMED = 10

#: The session's entry for the last bulk command.
_BULK_UNDO = "bulk_undo"

#: Maximum digits of an alert number that fits the database column.
MAX_NUMBER_DIGITS = 18


@require_safe
def alert_list(request: SignedInRequest) -> HttpResponse:
    """Render one tab of the list, filtered and paginated. The URL holds the whole state."""
    tab, text, filters = _read_list_state(request.GET)
    alerts, storm = alerts_queries.listed(tab, filters, text)
    cursor, descending = request.GET.get("cursor", ""), filters.get("sort") != "oldest"
    result: object_list.PaginatedRows[Any]
    if storm is not None or tab == "closed":
        result = object_list.paginate_by_number(alerts, cursor, descending=descending)
        rows = alerts_queries.rows_of(result.rows, request.now)
    else:
        if filters.get("sort") == "priority":
            result = object_list.PaginatedRows(alerts_queries.by_priority(alerts), "")
        else:
            result = object_list.paginate_entries(alerts, cursor, descending=descending)
        rows = alerts_queries.rows_of_entries(result.rows, request.now)
    counts = alerts_queries.active_counts()
    is_filtered = bool(text or filters.keys() - {"sort"})
    query_text = _query_text(request.GET)
    context = {
        "tabs": alerts_queries.tabs(tab, counts),
        # Of the shell, which would count again.
        "open_count": counts.needing_answer,
        "tab": tab,
        "text": text,
        "chosen": filters,
        "integrations": Integration.objects.order_by("name").values_list("pk", "name"),
        "groups": Group.objects.order_by("name").values_list("pk", "name"),
        "priorities": PRIORITIES,
        "filter_count": len(filters.keys() - {"sort"}),
        "rows": rows,
        "storm": storm,
        "storm_numbers": " ".join(map(str, storm.ids)) if storm else "",
        "pagination": result,
        "on_page": sum(len(row.storm.alerts) if row.storm else 1 for row in rows),
        "total": _total(alerts, tab, counts, is_filtered=is_filtered) if result.next else None,
        "most_bulk": MAX_BULK_ALERTS,
        "bulk_undo": _bulk_undo(request),
        "is_compact": request.user.has_compact_list,
        "saved_filters": request.user.alert_filters,
        "query_text": query_text,
        "current_filter": next((one["name"] for one in request.user.alert_filters if one["query"] == query_text), ""),
        "max_saved": MAX_ALERT_FILTERS,
    }
    return render_view(request, "alerts/list.html", context, partials=("list", "tabs"))


def _total(
    alerts: list[QuerySet[Alert]], tab: str, counts: alerts_queries.ActiveCounts, *, is_filtered: bool
) -> int | None:
    """Return how many alerts the list has, capped; None for closed ones, which are not counted."""
    if tab == "closed":
        return None
    if not is_filtered:
        return counts.by_tab[tab]
    return sum(object_list.capped_count(part, object_list.MAX_COUNTED_ALERTS + 1) for part in alerts)


#: What a saved filter keeps of the list's URL.
_QUERY_FIELDS = ("tab", "q", *(name for name in AlertFilterForm.base_fields if name != "storm"))


def _query_text(data: Mapping[str, str]) -> str:
    """Return the state of a list without its place in it, in one form."""
    return urlencode([(name, data[name]) for name in _QUERY_FIELDS if data.get(name)])


@require_POST
def list_preferences(request: SignedInRequest) -> HttpResponse:
    """Save the filters of the list under a name, forget one, or change how dense the list is."""
    back, name = next_url(request, "alerts"), request.POST.get("name", "").strip()
    filters = request.user.alert_filters
    others = [one for one in filters if one["name"].casefold() != name.casefold()]
    if "compact" in request.POST:
        changes: dict[str, Any] = {"compact_list": request.POST["compact"] == "yes"}
    elif "forget" in request.POST:
        changes = {"alert_filters": [one for one in filters if one["name"] != request.POST["forget"]]}
    else:
        changes = {"alert_filters": [*others, {"name": name, "query": _query_text(request.POST)}]}
    try:
        users.change(request.user, changes, actor=actor(request), now=request.now)
    except Rejected as rejected:
        messages.warning(request, rejected.reason.localized())
    return redirect(back)


@require_safe
def open_count(request: SignedInRequest) -> HttpResponse:
    """Render the badge beside "Alerts" in the side bar."""
    return render_view(request, "parts/open_count.html", {"open_count": alerts_queries.open_count()})


def _read_list_state(data: Mapping[str, str]) -> tuple[str, str, dict[str, Any]]:
    """Return the tab, the search text and the filters of a list, from the query of its URL or a form made of it."""
    tab = data.get("tab", "open")
    if tab not in dict(alerts_queries.TABS):
        tab = "open"
    text = data.get("q", "").replace("\x00", "").strip()[:200]
    form = AlertFilterForm(data)
    form.is_valid()
    return tab, text, {name: value for name, value in form.cleaned_data.items() if value}


@require_POST
@requires(Permission.RESPOND)
def bulk(request: SignedInRequest) -> HttpResponse:
    """Run one command on every selected alert; with `all`, on those of the whole list. A rejected alert does not stop
    the others. Closing, a storm and a whole list are confirmed with the number (`sure`).
    """
    kind = request.POST.get("command", CommandKind.ACKNOWLEDGE if "only" in request.POST else "")
    alerts = [alert for alert in find_alerts(_selected_numbers(request)) if may_respond(request.viewer, alert)]
    command = _command(request, kind)
    if not alerts or command is None:
        messages.warning(request, gettext("Choose at least one alert."))
        return redirect(next_url(request, "alerts"))
    if "sure" not in request.POST and (kind in _CONFIRMED or "all" in request.POST or _has_storm(request)):
        context = {
            "command": kind,
            "alerts": alerts,
            "count": len(alerts),
            "named": [alert.row for alert in alerts[:_MAX_NAMED]],
            "unnamed_count": max(0, len(alerts) - _MAX_NAMED),
            "is_capped": "all" in request.POST and len(alerts) == MAX_BULK_ALERTS,
            "most": MAX_BULK_ALERTS,
            "snooze_choices": SNOOZE_CHOICES,
            "back": next_url(request, "alerts"),
        }
        return render_view(request, "alerts/bulk.html", context)
    outcomes = apply_command_to_many(alerts, command, now=request.now)
    done = [alert.id for alert, outcome in zip(alerts, outcomes, strict=True) if not isinstance(outcome, Rejected)]
    if done:
        messages.success(request, done_text(kind, len(done)))
        until = None if kind == CommandKind.UNDO else (request.now + UNDO_WINDOW).isoformat()
        request.session[_BULK_UNDO] = {"alerts": done, "until": until}
    rejections = [outcome.reason.localized() for outcome in outcomes if isinstance(outcome, Rejected)]
    for detail in rejections[:5]:
        messages.warning(request, detail)
    if len(rejections) > 5:
        messages.warning(request, gettext("%(count)d more were refused.") % {"count": len(rejections) - 5})
    return redirect(next_url(request, "alerts"))


def _selected_numbers(request: SignedInRequest) -> list[int]:
    if request.POST.get("command") == CommandKind.UNDO:
        undo = _bulk_undo(request)
        return list(undo["alerts"]) if undo else []
    if "all" in request.POST and "sure" not in request.POST:
        tab, text, filters = _read_list_state(request.POST)
        return [row.pk for row in queries.first(alerts_queries.listed(tab, filters, text)[0], MAX_BULK_ALERTS)]
    # The box of a storm holds the numbers of all its alerts: only what the user saw is changed.
    selected = [text for value in _chosen(request) for text in value.split()][:MAX_BULK_ALERTS]
    return [int(text) for text in selected if text.isascii() and text.isdigit() and len(text) <= MAX_NUMBER_DIGITS]


def _chosen(request: SignedInRequest) -> list[str]:
    """Return the values of the chosen rows; of a row's own button only that row's."""
    return request.POST.getlist("only") or request.POST.getlist("alert")


def _has_storm(request: SignedInRequest) -> bool:
    return any(" " in value for value in _chosen(request))


def _bulk_undo(request: SignedInRequest) -> dict[str, Any] | None:
    """Return the alerts of the last bulk command and until when it can be undone; None without one."""
    match request.session.get(_BULK_UNDO):
        case {"alerts": list(alerts), "until": str(text)} if datetime.fromisoformat(text) > request.now:
            return {"alerts": alerts, "until": datetime.fromisoformat(text)}
    return None


def done_text(kind: str, count: int) -> str:
    """Return what a command did on several alerts."""
    match kind:
        case CommandKind.ACKNOWLEDGE:
            text = ngettext("%(count)d alert acknowledged.", "%(count)d alerts acknowledged.", count)
        case CommandKind.CLOSE:
            text = ngettext("%(count)d alert closed.", "%(count)d alerts closed.", count)
        case CommandKind.HOLD:
            text = ngettext("%(count)d alert snoozed.", "%(count)d alerts snoozed.", count)
        case CommandKind.UNDO:
            text = ngettext("Undone for %(count)d alert.", "Undone for %(count)d alerts.", count)
        case _:
            text = ngettext("%(count)d alert assigned to you.", "%(count)d alerts assigned to you.", count)
    return text % {"count": count}


def _command(request: SignedInRequest, kind: str) -> Command | None:
    user = alert_actor(request.user)
    match kind:
        case CommandKind.ACKNOWLEDGE:
            return Acknowledge(actor=user, via=CommandChannel.WEB)
        case "take":
            return Assign(actor=user, via=CommandChannel.WEB, name=user.name, user_id=user.user_id)
        case CommandKind.CLOSE:
            return Close(actor=user, via=CommandChannel.WEB)
        case CommandKind.HOLD:
            # The question asks for how long.
            chosen = request.POST.get("for", "")
            span = inputs.parse_duration(chosen if chosen in dict(SNOOZE_CHOICES) else SNOOZE_CHOICES[0][0], "for")
            return Hold(actor=user, via=CommandChannel.WEB, until=request.now + span)
        case CommandKind.UNDO:
            return Undo(actor=user, via=CommandChannel.WEB)
        case _:
            return None


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.RESPOND)
def new_alert(request: SignedInRequest) -> HttpResponse:
    """Ask for the problem and its recipients, then open the alert and page at once."""
    form = NewAlertForm(request.POST or None, initial=_initial())
    context: dict[str, Any] = {"form": form}
    status = 422 if form.errors else 200
    if request.method == "POST" and form.is_valid():
        manual_alert = _manual_alert(form.cleaned_data)
        if "anyway" in request.POST:
            return redirect("alert", _open(request, manual_alert))
        simulation = preview(manual_alert, request.now)
        if "preview" not in request.POST:
            if simulation.pages:
                return redirect("alert", _open(request, manual_alert))
            # A user who opens an alert expects a page to go out, so an alert that would page nobody needs a
            # confirmation.
            context["needs_confirmation"], status = True, 422
        paged = views.pages_by_delay(simulation.pages)
        context |= {
            "simulation": simulation,
            "paged": paged[: views.MAX_MOMENTS],
            "has_more": len(paged) > views.MAX_MOMENTS,
            "problems": dict.fromkeys(page.problem for page in simulation.pages if page.problem),
        }
    return render_view(request, "alerts/new.html", context, status=status)


def _initial() -> dict[str, Any]:
    """Preselect the first escalation policy, and the group if there is only one."""
    groups = list(Group.objects.all()[:2])
    return {"policy": Policy.objects.first(), "groups": groups if len(groups) == 1 else []}


def _open(request: SignedInRequest, manual_alert: ManualAlert) -> int:
    return open_alert(
        manual_alert,
        actor=alert_actor(request.user),
        username=request.user.username,
        via=CommandChannel.WEB,
        now=request.now,
    )


def _manual_alert(data: dict[str, Any]) -> ManualAlert:
    return ManualAlert(
        subject=data["subject"],
        priority=Priority(data["priority"]),
        policy=data["policy"],
        user_ids=tuple(user.pk for user in data["users"]),
        group_ids=tuple(group.pk for group in data["groups"]),
        columns={name: data[name] for name in ("client", "long_text") if data[name]},
    )
