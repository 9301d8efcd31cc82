"""Template tags used everywhere: icons, times, countdowns, users, alert states, buttons."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from zlib import crc32

from django import template
from django.http import QueryDict
from django.templatetags.static import static
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tocsin.alerts.models import Alert
from tocsin.alerts.states import AlertStatus, Priority
from tocsin.catalogue.kinds import Category, load_kinds
from tocsin.core.reasons import Reason, as_reason, local_duration, local_term
from tocsin.core.runtime import clock
from tocsin.escalation import commands
from tocsin.inbound.enums import MessageStatus
from tocsin.notify.channels import phone
from tocsin.notify.states import DeliveryState
from tocsin.people import addresses
from tocsin.people import sign_in_rules as factors
from tocsin.people.models import User
from tocsin.web.alerts.queries import AlertListRow, SlaTarget
from tocsin.web.ui import object_list
from tocsin.web.ui.formatting import (
    format_date,
    format_day,
    format_exact,
    format_moment,
    format_short,
    format_time_left,
    initials,
)
from tocsin.web.ui.forms import PRIORITIES, trace_label
from tocsin.workflows.run import tasks

register = template.Library()

#: The number of `.tile-N` colours in the style sheet.
_TILE_COLOURS = 11
#: Types of these categories belong to no product.
_TILE_ICONS = {Category.EMAIL: "mail", Category.HEARTBEAT: "heartbeat"}

_PRIORITIES = dict(PRIORITIES)
_PRIORITY_ICONS = {
    Priority.CRITICAL: "alert-triangle-filled",
    Priority.HIGH: "chevrons-up",
    Priority.MEDIUM: "chevron-up",
    Priority.LOW: "chevron-down",
}


@register.simple_tag
@lru_cache(maxsize=1024)
def icon(name: str, classes: str = "", *, sprite: str = "icons") -> SafeString:
    """Render a Tabler icon, or a symbol of another sprite, hidden from screen readers because the adjacent text carries
    the meaning."""
    return format_html(
        '<svg class="icon {}" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>',
        classes,
        static(f"vendor/{sprite}.svg"),
        name,
    )


@register.simple_tag
def moment(at: datetime | None, style: str = "relative") -> SafeString | str:
    """Render a time in the user's zone, with the exact time as tooltip.

    `style` is `relative`, `age` (without "ago"), `clock`, `minute`, `short`, `day`, `planned` or `exact`.
    """
    if at is None:
        return "–"
    local = timezone.localtime(at)
    return format_html(
        '<time datetime="{}" title="{}"{}>{}</time>',
        at.isoformat(),
        format_exact(local),
        SafeString(f' data-relative="{style}"') if style in ("relative", "age") else "",
        _format_time(local, style),
    )


def _format_time(local: datetime, style: str) -> str:
    match style:
        case "relative":
            return format_moment(local, clock.now())
        case "age":
            return format_moment(local, clock.now(), is_age=True)
        case "clock":
            return f"{local:%H:%M:%S}"
        case "minute":
            return f"{local:%H:%M}"
        case "short":
            return format_short(local)
        case "day":
            return format_day(local)
        case "planned":
            return f"{format_date(local)}, {local:%H:%M} {local.tzname()}"
        case _:
            return format_exact(local)


@register.simple_tag
def countdown(at: datetime | None) -> SafeString | str:
    """Render the time left until `at` as a live countdown."""
    if at is None:
        return ""
    return format_html(
        '<time datetime="{}" title="{}" data-countdown="">{}</time>',
        at.isoformat(),
        format_exact(timezone.localtime(at)),
        format_time_left(at - clock.now()),
    )


@register.filter
def span(value: timedelta | None) -> str:
    """Format a duration in words: "5 minutes"."""
    return "" if value is None else local_duration(value)


@register.filter
def reason(value: Reason | str | None) -> str:
    """Render a reason in the user's language and time zone. A text of a person or another system stays as it is."""
    return as_reason(value).localized() if value else ""


@register.filter
def code_spans(text: str) -> SafeString:
    """Render what stands between backticks as code; the command line shows the same text with its backticks."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return format_html("{}", text)
    return format_html_join(
        "", "{}", ((format_html("<code>{}</code>", part) if at % 2 else part,) for at, part in enumerate(parts))
    )


@register.filter
def term(word: str) -> str:
    """Translate a fixed word of Tocsin's: a role, a state, a channel, the title of a kind."""
    return local_term(str(word))


@register.simple_tag
def tile(kind_name: str, classes: str = "") -> SafeString:
    """Render the tile of an integration type: the product's mark, an icon, or two letters where the mark may not be
    used, in white on a colour that belongs to the type. Beside it stands the name, so screen readers skip it."""
    kind = load_kinds().get(kind_name)
    symbol = ""
    if kind is not None and kind.logo:
        symbol = icon(kind.logo, sprite="logos")
    elif kind is not None and kind.category in _TILE_ICONS:
        symbol = icon(_TILE_ICONS[kind.category])
    return format_html(
        '<span class="tile tile-{} {}" aria-hidden="true" data-letters="{}">{}</span>',
        crc32(kind_name.encode()) % _TILE_COLOURS,
        classes,
        "" if symbol else (kind.initials if kind is not None else kind_name[:1].upper() + kind_name[1:2]),
        symbol,
    )


@register.simple_tag
def alert_origin(alert: Alert) -> SafeString | str:
    """Render the alert's integration with its tile, or how the alert was opened, or its source."""
    if alert.integration is not None:
        return format_html("{} <bdi>{}</bdi>", tile(alert.integration.kind, "small"), alert.integration.name)
    match alert.source:
        case commands.SOURCE:
            return _("created manually")
        case tasks.SOURCE:
            return _("opened by a workflow")
        case other:
            return other


@register.simple_tag
def person(user: User | None, name: str = "", *, bare: bool = False) -> SafeString | str:
    """Render a user as initials and name. With `bare` only screen readers and the tooltip get the name."""
    display_name = user.display_name if user is not None else name
    if not display_name:
        return ""
    return format_html(
        '<span class="person" title="{}"><span class="avatar" aria-hidden="true">{}</span>'
        '<span class="{}">{}</span></span>',
        display_name,
        initials(display_name),
        "off-screen" if bare else "",
        display_name,
    )


@register.filter
def second_factors(user: User) -> list[str]:
    return factors.list_second_factors(user)


@register.simple_tag
def state(status: str, acknowledged: bool = False, dry_run: bool = False) -> SafeString:
    """Render the badge of an alert's state. Red means that the alert needs an answer, which a dry-run alert
    never does."""
    label, tone = _state(AlertStatus(status), acknowledged)
    tone = "" if dry_run and tone == "now" else tone
    return format_html('<span class="chip {}">{}</span>', tone, label)


def _state(status: AlertStatus, acknowledged: bool) -> tuple[str, str]:
    match status:
        case AlertStatus.OPEN:
            return (_("Acknowledged"), "wait") if acknowledged else (_("Open"), "now")
        case AlertStatus.ASSIGNED:
            return _("Assigned"), ""
        case AlertStatus.ON_HOLD:
            return _("Snoozed"), ""
        case AlertStatus.CLOSED:
            return _("Closed"), "quiet"
        case AlertStatus.CANCELLED:
            return _("False alarm"), "quiet"
        case AlertStatus.MERGED:
            return _("Merged"), "quiet"


@register.simple_tag
def next_action(row: AlertListRow) -> SafeString | str:
    """Render the next action of a listed alert, or when it was closed."""
    alert = row.alert
    match AlertStatus(alert.status):
        case AlertStatus.ON_HOLD:
            return format_html("<span>{} <strong>{}</strong></span>", _("Back"), moment(alert.hold_until))
        case AlertStatus.ASSIGNED if row.next_at is None:
            owner_text = _("Assigned to %(name)s") % {"name": alert.owner or alert.owner_name}
            return format_html('<span class="soft">{}</span>', owner_text)
        case AlertStatus.OPEN | AlertStatus.ASSIGNED if row.next_at:
            remaining = countdown(row.next_at)
            return format_html(
                '<span><strong>{}</strong> <span class="meta">{}</span></span>', remaining, row.next_text
            )
        case AlertStatus.OPEN:
            return format_html('<span class="meta">{}</span>', row.next_text or _("No escalation scheduled"))
        case _ if alert.closed_at:
            return format_html('<span class="soft">{}</span>', moment(alert.closed_at))
        case _:
            return ""


@register.simple_tag
def priority(value: str) -> SafeString:
    """Render the priority as a word."""
    level = Priority(value)
    return format_html(
        '<span class="prio prio-{}">{}P{} {}</span>',
        level.value,
        icon(_PRIORITY_ICONS[level], "icon-small"),
        level.rank + 1,
        _PRIORITIES[level],
    )


@register.simple_tag
def sla(target: SlaTarget | None) -> SafeString | str:
    """Render the time left until an alert must be answered or fixed; red once it is exceeded."""
    if target is None:
        return ""
    if target.is_breached:
        return format_html('<span class="sla now-text">{} {}</span>', target.label, moment(target.at))
    return format_html('<span class="sla">{} {}</span>', target.label, countdown(target.at))


@register.simple_tag
def outcome(status: str) -> SafeString:
    """Render the badge of a message's outcome. Only a message that could not be mapped is red."""
    tones = {
        MessageStatus.FAILED: "now",
        MessageStatus.IGNORED: "quiet",
        MessageStatus.PENDING: "wait",
        MessageStatus.DELAYED: "wait",
    }
    return format_html('<span class="chip {}">{}</span>', tones.get(MessageStatus(status), ""), local_term(status))


#: (icon, class of the chip): no two states look the same, in black and white either.
_DELIVERY_LOOKS = {
    DeliveryState.ANSWERED: ("phone-check", "answered"),
    DeliveryState.DELIVERED: ("checks", "ok"),
    DeliveryState.SENT: ("send", "sent"),
    DeliveryState.QUEUED: ("clock", ""),
    DeliveryState.FAILED: ("alert-triangle", "failed"),
    DeliveryState.SANDBOXED: ("flask", "sandboxed"),
    DeliveryState.CANCELLED: ("x", "quiet"),
}


@register.simple_tag
def delivery_state(state: DeliveryState) -> SafeString:
    """Render how far a delivery came."""
    icon_name, css = _DELIVERY_LOOKS[state]
    return format_html('<span class="chip delivery {}">{} {}</span>', css, icon(icon_name, "icon-small"), state.label)


@register.inclusion_tag("parts/copy.html")
def copy(value: str, label: str) -> dict[str, Any]:
    """Render a value in a read-only field with a copy button."""
    return {"value": value, "label": label}


@register.inclusion_tag("parts/empty.html")
def empty(title: str, text: str = "", *, icon: str = "inbox", url: str = "", label: str = "") -> dict[str, Any]:
    """Render the placeholder of an empty list, with a suggested next step."""
    return {"title": title, "text": text, "icon": icon, "url": url, "label": label}


@register.inclusion_tag("parts/post.html", takes_context=True)
def post(
    context: template.Context,
    url: str,
    label: str,
    *,
    style: str = "",
    icon: str = "",
    next: str = "",
    key: str = "",
    **values: Any,
) -> dict[str, Any]:
    """Render a button that POSTs to `url`; views change state in no other way. `key` is its keyboard shortcut."""
    return {
        "csrf_token": context.get("csrf_token"),
        "url": url,
        "label": label,
        "style": style,
        "icon": icon,
        "next": next,
        "key": key,
        "values": values,
    }


@register.simple_tag(takes_context=True)
def command_form(context: template.Context, kind: str, *, css: str = "", guard: bool = False) -> SafeString:
    """Open a form that gives a command to the page's alert: signed in, or by the signed link that the page was opened
    with."""
    has_link = bool(context.get("token"))
    return format_html(
        '<form class="{}" method="post" action="{}"{}><input type="hidden" name="csrfmiddlewaretoken" value="{}">{}',
        css or "inline-form",
        "" if has_link else reverse("alert_command", args=(context["alert"].pk, kind)),
        SafeString(" data-guard" if guard else ""),
        context.get("csrf_token") or "",
        format_html('<input type="hidden" name="command" value="{}">', kind) if has_link else "",
    )


@register.simple_tag(takes_context=True)
def query(context: template.Context, **changes: Any) -> str:
    """Return the current query string with `changes` applied. None or "" removes a parameter; the place in a list
    (`cursor`, `page`) is always removed."""
    fields: QueryDict = context["request"].GET.copy()
    for place in ("cursor", "page"):
        fields.pop(place, None)
    for name, value in changes.items():
        if value is None or value == "":
            fields.pop(name, None)
        else:
            fields[name] = str(value)
    return f"?{fields.urlencode()}" if fields else "?"


@register.filter
def display_address(address: str) -> str:
    """Format a contact method's address for its owner; an address that is itself a secret is masked."""
    return phone.format_for_display(addresses.display_form(address))


@register.filter
def split(text: str) -> list[str]:
    return text.split()


@register.filter
def capped(value: int | None) -> str:
    """Format a count for a badge: "99+" above 99."""
    if value is None:
        return ""
    return "99+" if value > 99 else str(value)


@register.filter
def counted(value: int) -> str:
    """Format a count of messages: "10,000+" above MAX_COUNTED_MESSAGES."""
    return object_list.counted(value, object_list.MAX_COUNTED_MESSAGES)


@register.filter
def times(value: int) -> str:
    """Return "once" or "3 times"."""
    return _("once") if value == 1 else ngettext("%(count)d time", "%(count)d times", value) % {"count": value}


@register.filter
def option_value(number: int, prefix: str) -> str:
    """Return an option value such as "group-7", for a field that mixes several object types."""
    return f"{prefix}-{number}"


register.filter("trace_label", trace_label)
