"""A message as Slack lays it out (Block Kit, https://api.slack.com/reference/block-kit). Pure."""

from __future__ import annotations

from typing import Any

from tocsin.alerts.states import CommandKind
from tocsin.notify import wording
from tocsin.notify.channels.chat import buttons
from tocsin.notify.channels.contract import Rendered

#: Of a section's text.
LONGEST = 3000
#: Of a header, and of the fallback that notifications show.
_LONGEST_HEADER = 150

ACTION = "tocsin_"


def message(rendered: Rendered, *, answers: bool = True) -> dict[str, Any]:
    """Text for notifications, and blocks; with buttons where the message asks for an answer about one alert and what
    they say reaches Tocsin: one that does nothing would be taken for an answer."""
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": wording.cut(rendered.subject, _LONGEST_HEADER)}}
    ]
    blocks.append(_section(rendered.text))
    if (number := buttons.alert_of(rendered)) is not None:
        blocks += [actions(tuple(buttons.LABELS), number)] if answers else []
    if rendered.link:
        label = "Open the alert" if number is not None else "Open Tocsin"
        blocks.append(_context(f"<{rendered.link}|{label}>"))
    return {"text": wording.cut(rendered.subject, _LONGEST_HEADER), "blocks": blocks}


def answered(blocks: list[Any], pressed: str, number: int, said: str) -> list[Any]:
    """The blocks of a message after a button was pressed: what came of it, and the buttons that still make sense."""
    kept = [block for block in blocks if isinstance(block, dict) and block.get("type") in ("header", "section")]
    links = [block for block in blocks if isinstance(block, dict) and block.get("type") == "context"][:1]
    stay = buttons.left_after(pressed)
    return [*kept, _context(said), *([actions(stay, number)] if stay else []), *links]


def actions(kinds: tuple[CommandKind, ...], number: int) -> dict[str, Any]:
    """A row of buttons."""
    return {"type": "actions", "elements": [_button(kind, number) for kind in kinds]}


def escaped(text: str) -> str:
    """Text that is not to be read as Slack's markup (https://api.slack.com/reference/surfaces/formatting#escaping)."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _button(kind: CommandKind, number: int) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": "button",
        "action_id": f"{ACTION}{kind}",
        "text": {"type": "plain_text", "text": buttons.LABELS[kind]},
        "value": buttons.written(kind, number),
    }
    if kind is CommandKind.ACKNOWLEDGE:
        made["style"] = "primary"
    if kind is CommandKind.CLOSE:
        made["style"] = "danger"
        made["confirm"] = {
            "title": {"type": "plain_text", "text": f"Close alert {number}?"},
            "text": {"type": "plain_text", "text": "Nobody is paged about it any more."},
            "confirm": {"type": "plain_text", "text": "Close"},
            "deny": {"type": "plain_text", "text": "Keep it open"},
        }
    return made


def _section(text: str) -> dict[str, Any]:
    said = text
    while len(escaped(said)) > LONGEST:
        said = wording.cut(said, len(said) * 9 // 10)
    return {"type": "section", "text": {"type": "mrkdwn", "text": escaped(said), "verbatim": True}}


def _context(text: str) -> dict[str, Any]:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": text, "verbatim": True}]}
