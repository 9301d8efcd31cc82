"""Checkmk's plugins for Slack, Mattermost and Cisco Webex post a text of lines such as "Host: web1 (IP: 10.0.0.1)", and
take the address of any webhook: https://github.com/Checkmk/checkmk/tree/master/cmk/notification_plugins."""

from __future__ import annotations

import re
from typing import Final

from tocsin.catalogue.hooks import Headers, Payload

_TEXT: Final = re.compile(
    r"(?:Service|Host) (?P<type>\w+) notification\s+Host: (?P<host>\S.*?) \(IP: (?P<address>[^)\n]*)\)\s+"
    r"(?:Service: (?P<service>\S.*?)[ \t]*\n)?(?:State|Event): (?:.*\W)?(?P<state>\w+)[ \t]*(?:\n|$)"
    r"(?:#### )?(?:Additional Info\s+)?(?P<output>[^\n]*)"
)
#: Where a chat links a name.
_LINK: Final = re.compile(r"<[^|>]*\|([^>]*)>")


def messages(payload: Payload, headers: Headers) -> list[Payload]:
    """Returns the message with the names of the guide's script, if it is such a text."""
    found = _TEXT.search(_text_of(payload)) if "host" not in payload else None
    if found is None:
        return [payload]
    return [{**payload, **{name: _LINK.sub(r"\1", value) for name, value in found.groupdict().items() if value}}]


def _text_of(payload: Payload) -> str:
    attachments = payload.get("attachments")
    if not isinstance(attachments, list):
        return str(payload.get("markdown", ""))
    parts = [item.get(name) for item in attachments[:2] if isinstance(item, dict) for name in ("title", "text")]
    return "\n".join(part for part in parts if isinstance(part, str))
