"""Makes external text safe to display: HTML is sanitized with an allow-list, everything else is escaped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache

import nh3
from django.template.loader import render_to_string
from django.utils.html import escape, format_html, urlize
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from tocsin.catalogue.kinds import IntegrationKind

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
