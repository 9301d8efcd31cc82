"""Formats moments and durations in the user's time zone and language, and texts as safe HTML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import cache, lru_cache

import nh3
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import escape, format_html, urlize
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language, pgettext
from django.utils.translation import gettext as _
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from tocsin.catalogue.kinds import IntegrationKind
from tocsin.core.runtime import clock

# ---------- times


def format_moment(at: datetime, now: datetime, *, is_age: bool = False) -> str:
    """Return a relative time: "just now", "6 min ago", "in 2 h", "3 d ago"; an age is "6 min". The browser script uses
    the same wording."""
    seconds = int((now - at).total_seconds())
    if abs(seconds) < 45:
        return _("just now") if seconds > -10 else _("in a moment")
    for length, name in ((86400, "d"), (3600, "h"), (60, "min")):
        amount = round(abs(seconds) / length)
        if amount >= 1 and abs(seconds) >= length * 0.75:
            text = f"{amount} {_unit(name)}"
            if is_age:
                return text
            return _("%(span)s ago") % {"span": text} if seconds > 0 else _("in %(span)s") % {"span": text}
    return _("just now")


def _unit(name: str) -> str:
    match name:
        case "d":
            return pgettext("unit of days", "d")
        case "h":
            return pgettext("unit of hours", "h")
        case _:
            return pgettext("unit of minutes", "min")


def format_time_left(span: timedelta) -> str:
    """Return the remaining time, such as "2:10" or "1:02:10"; "now" once it has elapsed. The browser script matches
    this."""
    seconds = int(span.total_seconds())
    if seconds <= 0:
        return _("now")
    hours, remainder = divmod(seconds, 3600)
    minutes, seconds_left = divmod(remainder, 60)
    if hours >= 48:
        return _("%(days)s days") % {"days": hours // 24}
    return f"{hours}:{minutes:02d}:{seconds_left:02d}" if hours else f"{minutes}:{seconds_left:02d}"


def format_exact(local: datetime) -> str:
    """Return the full date and time with the zone."""
    return f"{format_date(local)}, {local.strftime('%H:%M:%S')} {local.tzname()}"


def format_date(local: datetime) -> str:
    """Return a date such as "Sat 5 Dec 2026"."""
    return _date_in(get_language(), local.date())


@lru_cache(maxsize=1_000)
def _date_in(_language: str | None, day: date) -> str:
    """Cached, because many moments in one view share a date and Django's date_format is slow."""
    return date_format(day, pgettext("date format", "D j M Y"))


def format_short(local: datetime) -> str:
    """Return "09:00" for today, "Mon 09:00" within a week, else "7 Dec 09:00"."""
    days = (local.date() - timezone.localtime(clock.now()).date()).days
    day = "" if days == 0 else f"{date_format(local, 'D' if -7 < days < 7 else pgettext('date format', 'j M'))} "
    return f"{day}{local.strftime('%H:%M')}"


def format_day(local: datetime) -> str:
    """Return "Today", "Yesterday", or the date."""
    today: date = timezone.localtime(clock.now()).date()
    if local.date() == today:
        return _("Today")
    if local.date() == today - timedelta(days=1):
        return _("Yesterday")
    return format_date(local)


# ---------- names


def initials(name: str) -> str:
    """Return at most two initials: "Alice Andersson" → AA."""
    words = [word for word in name.replace(".", " ").replace("-", " ").split() if word[0].isalnum()]
    if not words:
        return name[:1].upper()
    if len(words) == 1:
        return words[0][:2].upper()
    return (words[0][0] + words[-1][0]).upper()


# ---------- richtext
# Makes external text safe to display: HTML is sanitized with an allow-list, everything else is escaped.

#: Tags allowed in a ticket's text. Images are excluded: loading one tells its sender who reads the ticket and when.
TAGS = {
    "a", "b", "blockquote", "br", "code", "dd", "div", "dl", "dt", "em", "h1", "h2", "h3", "h4", "hr", "i", "li",
    "ol", "p", "pre", "s", "span", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "u", "ul",
}  # fmt: skip

_LOOKS_LIKE_HTML = re.compile(
    r"<(p|br|div|span|table|ul|ol|li|b|strong|em|i|a|h[1-6]|html|body|pre|blockquote)\b", re.IGNORECASE
)

_BLOCKS = re.compile(r"<(p|br|div|li|tr|h[1-6])\b", re.IGNORECASE)


def safe_html(text: str) -> SafeString:
    """Return `text` as safe HTML. HTML is sanitized; plain text is escaped, with line breaks and links preserved."""
    if _LOOKS_LIKE_HTML.search(text):
        cleaned = nh3.clean(
            text,
            tags=TAGS,
            attributes={"a": {"href"}, "td": {"colspan", "rowspan"}, "th": {"colspan", "rowspan"}},
            clean_content_tags={"script", "style", "title", "head"},
            link_rel="noopener noreferrer nofollow",
            url_schemes={"http", "https", "mailto", "tel"},
        )
        return mark_safe(_headings_down(cleaned))  # noqa: S308 - nh3 made it safe
    lines = urlize(escape(text.strip()), nofollow=True)
    return mark_safe(lines.replace("\n", "<br>"))  # noqa: S308 - escaped above


def is_long(text: str) -> bool:
    """Return whether the text probably exceeds six lines on a phone."""
    if len(text) > 320 or text.count("\n") > 5:
        return True
    # In HTML each block counts as one line, and a paragraph as two because of its margin.
    return sum(2 if match[1].lower() == "p" else 1 for match in _BLOCKS.finditer(text)) > 6


def _headings_down(html: str) -> str:
    """Replace headings by bold text, so that a ticket's headings do not disturb the view's heading structure."""
    return re.sub(r"<(/?)h[1-4]>", lambda match: f"<{match[1]}strong>" if not match[1] else "</strong><br>", html)


# ---------- guide text
# Renders integration guides from Markdown to HTML. Raw HTML in the source is escaped.


def kind_guide(kind: IntegrationKind, url: str, settings: Mapping[str, object]) -> SafeString:
    """Return the guide of an integration type as HTML, in the user's language if it is translated.

    An untranslated guide carries a `lang` attribute for screen readers.
    """
    language = get_language() or "en"
    html = render_html(kind.guide(url, settings, language))
    guide_language = kind.guide_language(language)
    return (
        html
        if guide_language == language.partition("-")[0]
        else format_html('<div lang="{}">{}</div>', guide_language, html)
    )


def render_html(text: str) -> SafeString:
    """Return the guide as HTML, with headings one level below the view's own heading."""
    markdown = _markdown()
    tokens = markdown.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
        if token.type == "fence":
            # Scrollable blocks must be reachable by keyboard.
            token.attrSet("tabindex", "0")
    rendered: str = markdown.renderer.render(tokens, markdown.options, {})
    return mark_safe(rendered)  # noqa: S308 - raw HTML is off


@cache
def _markdown() -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    markdown.add_render_rule("fence", _code_block)
    return markdown


def _code_block(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    """Render a code block with a copy button."""
    code = mark_safe(renderer.fence(tokens, index, options, env))  # noqa: S308 - escaped by the renderer
    return render_to_string("parts/code_block.html", {"code": code}).strip()
