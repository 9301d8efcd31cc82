"""Guides, written in Markdown, as HTML. Raw HTML in them stays text."""

from __future__ import annotations

from functools import cache

from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt


def as_html(text: str) -> SafeString:
    """The guide as HTML; its headings begin below the page's own."""
    markdown = _markdown()
    tokens = markdown.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
        if token.type == "fence":
            # Something that scrolls must be reachable by keyboard.
            token.attrSet("tabindex", "0")
    rendered: str = markdown.renderer.render(tokens, markdown.options, {})
    return mark_safe(rendered)  # noqa: S308 - raw HTML is off


@cache
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable("table")
