"""Reply codes of text messages. If the setting `sms_reply_codes` is on, a reply must contain the code of its alert,
which only the recipient's phone received, because a sender number is easy to forge.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection

from django.core.cache import cache

from tocsin.alerts.states import CommandKind
from tocsin.core.config import crypto
from tocsin.notify.text.command_parser import word_of

#: The maximum number of wrong codes within `_WINDOW` seconds. There are ten thousand codes.
MAX_WRONG = 5
_WINDOW = 3600

#: The code at the end: "ACK 42 7391", "ACK ALL 7391", "REPLY 42 On my way 7391".
_CODE = re.compile(r"(.*\S)\s+([0-9]{4})[\s.!]*", re.DOTALL)

TOO_MANY_WRONG = "Too many wrong codes within an hour. Open the alert in Tocsin."


def code_of(user_id: int, alert_id: int) -> str:
    """Returns the four-digit code for the user's replies about the alert."""
    # A separate key, so that no other signature reveals a code.
    key = hashlib.sha256(f"reply code:{crypto.keys()[0]}".encode()).digest()
    number = int.from_bytes(hmac.digest(key, f"{user_id} {alert_id}".encode(), "sha256")[:8])
    return f"{number % 10_000:04}"


def split(text: str) -> tuple[str, str]:
    """Returns the text before the code, and the code; the code is empty if the text does not end with one."""
    found = _CODE.fullmatch(text)
    return (found[1], found[2]) if found else (text, "")


def refuse(user_id: int, alert_ids: Collection[int], code: str, command: CommandKind) -> str:
    """Returns why a reply with that code is rejected and what a correct one looks like; empty if the code belongs to
    one of the alerts.

    The sentence is sent to the user's stored number, never to the forger.
    """
    if code:
        attempts = f"wrong reply codes of {user_id}"
        cache.add(attempts, 0, _WINDOW)
        if cache.incr(attempts) > MAX_WRONG:
            return TOO_MANY_WRONG
        if any(hmac.compare_digest(code, code_of(user_id, alert_id)) for alert_id in alert_ids):
            cache.decr(attempts)
            return ""
    first = next(iter(alert_ids))
    text = "text " if command is CommandKind.REPLY else ""
    right = f"{word_of(command)} {first} {text}{code_of(user_id, first)}"
    return f"Nothing was done: an answer ends with the code of its alert. Send {right}."
