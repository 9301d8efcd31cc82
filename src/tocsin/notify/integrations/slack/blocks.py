"""Lays out a message for Slack (Block Kit, https://api.slack.com/reference/block-kit). Pure."""

from __future__ import annotations

from typing import Any

from tocsin.alerts.states import CommandKind
from tocsin.notify.channels import chat_buttons
from tocsin.notify.integrations.json_object import child, items, text
from tocsin.notify.interfaces import Rendered
from tocsin.notify.text import formatting
from tocsin.notify.text.phrases import phrase

#: The maximum length of a section's text.
MAX_SECTION_CHARS = 3000
#: The maximum length of a header, and of the fallback text in notifications.
_MAX_HEADER_CHARS = 150

ACTION = "tocsin_"


def message(rendered: Rendered, *, with_buttons: bool = True) -> dict[str, Any]:
    """Returns the fallback text and the blocks. Buttons are included only if the message asks for a response to one
    alert and presses reach Tocsin: a button without effect would be mistaken for a response.
    """
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": formatting.cut(rendered.subject, _MAX_HEADER_CHARS)}}
    ]
    blocks.append(_section(rendered.text))
    if (number := chat_buttons.alert_of(rendered)) is not None:
        blocks += [_actions(number, rendered.language)] if with_buttons else []
    if rendered.link:
        is_alert, language = number is not None, rendered.language
        label = phrase(language, "Open the alert") if is_alert else phrase(language, "Open Tocsin")
        blocks.append(_context(f"<{rendered.link}|{label}>"))
    return {"text": formatting.cut(rendered.subject, _MAX_HEADER_CHARS), "blocks": blocks}


def blocks_after_press(blocks: list[Any], pressed: str, result: str) -> list[Any]:
    """Returns the blocks of a message after a button press: the result, and the buttons that are still useful, in their
    existing language.
    """
    content_blocks = [
        block for block in blocks if isinstance(block, dict) and block.get("type") in ("header", "section")
    ]
    links = [block for block in blocks if isinstance(block, dict) and block.get("type") == "context"][:1]
    names = {f"{ACTION}{kind}" for kind in chat_buttons.buttons_after(pressed)}
    rows = (block.get("elements") for block in blocks if isinstance(block, dict) and block.get("type") == "actions")
    remaining = [element for row in rows for element in items(row) if text(child(element).get("action_id")) in names]
    return [
        *content_blocks,
        _context(result),
        *([{"type": "actions", "elements": remaining}] if remaining else []),
        *links,
    ]


def _actions(number: int, language: str) -> dict[str, Any]:
    return {"type": "actions", "elements": [_button(kind, number, language) for kind in chat_buttons.BUTTONS]}


def escaped(text: str) -> str:
    """Escapes text so that Slack does not read it as markup
    (https://api.slack.com/reference/surfaces/formatting#escaping).
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _button(kind: CommandKind, number: int, language: str) -> dict[str, Any]:
    button: dict[str, Any] = {
        "type": "button",
        "action_id": f"{ACTION}{kind}",
        "text": {"type": "plain_text", "text": chat_buttons.label(kind, language)},
        "value": chat_buttons.format_button_data(kind, number),
    }
    if kind is CommandKind.ACKNOWLEDGE:
        button["style"] = "primary"
    if kind is CommandKind.CLOSE:
        button["style"] = "danger"
        button["confirm"] = {
            "title": {"type": "plain_text", "text": phrase(language, "Close alert {number}?", number=number)},
            "text": {"type": "plain_text", "text": phrase(language, "Paging for it stops.")},
            "confirm": {"type": "plain_text", "text": phrase(language, "Close")},
            "deny": {"type": "plain_text", "text": phrase(language, "Keep it open")},
        }
    return button


def _section(text: str) -> dict[str, Any]:
    shortened = text
    while len(escaped(shortened)) > MAX_SECTION_CHARS:
        shortened = formatting.cut(shortened, len(shortened) * 9 // 10)
    return {"type": "section", "text": {"type": "mrkdwn", "text": escaped(shortened), "verbatim": True}}


def _context(text: str) -> dict[str, Any]:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": text, "verbatim": True}]}
