"""Converts untrusted text from sources to safe HTML and to plain text for mails. Pure."""

from __future__ import annotations

import html
import re

import nh3

from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.notify.text.formatting import cut

#: The maximum length of a long text in a mail; the alert's page shows all of it.
MAX_TEXT_CHARS = 20_000

_TAGS = {
    "a", "b", "blockquote", "br", "code", "dd", "div", "dl", "dt", "em", "h1", "h2", "h3", "h4", "hr", "i", "li", "ol",
    "p", "pre", "s", "span", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "u", "ul",
}  # fmt: skip
_ATTRIBUTES = {"a": {"href"}, "td": {"colspan", "rowspan"}, "th": {"colspan", "rowspan"}}
_SCHEMES = {"http", "https", "mailto", "tel"}

#: Tags that identify a text as HTML. Other words in angle brackets, such as `Object.<anonymous>` or `List<String>`, are
#: ordinary log text.
_KNOWN = _TAGS | {
    "!doctype", "article", "base", "big", "body", "button", "center", "font", "footer", "form", "h5", "h6", "head",
    "header", "html", "iframe", "img", "input", "label", "link", "main", "meta", "nav", "o:p", "object", "script",
    "section", "small", "style", "svg", "tfoot", "title", "tt",
}  # fmt: skip
_MARKUP = re.compile(rf"</?(?:{'|'.join(sorted(_KNOWN))})(\s[^<>]*)?/?>", re.IGNORECASE)
_ENDS = re.compile(r"<(?:br|hr)\b[^<>]*>|</(?:p|div|li|tr|h[1-6]|blockquote|pre|table|dd|dt)\s*>", re.IGNORECASE)
_CELLS = re.compile(r"</t[dh]\s*>", re.IGNORECASE)
_EMPTY_LINES = re.compile(r"\n\s*\n\s*(\n\s*)+")


def is_html(text: str) -> bool:
    """Returns whether `text` contains HTML tags."""
    return _MARKUP.search(text) is not None


def safe_html(text: str) -> str:
    """Returns `text`, plain or HTML, as HTML without scripts, styles, images, forms or unsafe URL schemes."""
    sanitized = sanitize(text)
    if not is_html(sanitized):
        return "<br>\n".join(html.escape(line) for line in cut(sanitized, MAX_TEXT_CHARS).splitlines())
    rel = "noopener noreferrer"
    cleaned = nh3.clean(
        sanitized[:MAX_TEXT_CHARS], tags=_TAGS, attributes=_ATTRIBUTES, url_schemes=_SCHEMES, link_rel=rel
    )
    return f"{cleaned}…" if len(sanitized) > MAX_TEXT_CHARS else cleaned


def plain(text: str, max_chars: int = MAX_TEXT_CHARS) -> str:
    """Returns `text`, plain or HTML, as plain text with its line breaks."""
    result = sanitize(text)[: MAX_TEXT_CHARS * 3]
    if is_html(result):
        result = strip_tags(result, "script", "style", "head", "title")
        # In HTML, a line break is only a space.
        result = re.sub(r"[ \t\r\n]+", " ", result)
        result = _CELLS.sub(" ", _ENDS.sub("\n", result))
        result = html.unescape(nh3.clean(result, tags=set()))
    lines = "\n".join(line.strip() for line in result.replace("\xa0", " ").splitlines())
    return cut(_EMPTY_LINES.sub("\n\n", lines).strip(), max_chars)


def strip_tags(text: str, *tags: str) -> str:
    """Removes these elements from HTML, in one pass per tag. An element without an end tag is kept."""
    for tag in tags:
        begins, ends = (re.compile(rf"<{slash}{tag}\b", re.IGNORECASE) for slash in ("", "/"))
        pieces, at = list[str](), 0
        while (begin := begins.search(text, at)) is not None and (end := ends.search(text, begin.end())) is not None:
            pieces.append(text[at : begin.start()])
            at = text.find(">", end.end()) + 1 or len(text)
        text = "".join((*pieces, text[at:]))
    return text
