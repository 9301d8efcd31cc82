"""Renders integration guides from Markdown to HTML. Raw HTML in the source is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from django.template.loader import render_to_string
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from tocsin.catalogue.kinds import IntegrationKind


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
