"""Codes of text messages: where the installation asks for them, an answer by SMS carries the code of its alert, which
only the phone has got. A sender's number is easily forged. See the setting `sms_reply_codes`."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection

from django.core.cache import cache

from tocsin.alerts.states import CommandKind
from tocsin.core.config import crypto
from tocsin.notify.text.command_parser import word_of

#: Of ten thousand codes, somebody who forges a number may try so many within `_WINDOW` seconds.
MAX_WRONG = 5
_WINDOW = 3600

#: At the end: "ACK 42 7391", "ACK ALL 7391", "REPLY 42 On my way 7391".
_CODE = re.compile(r"(.*\S)\s+([0-9]{4})[\s.!]*", re.DOTALL)

TOO_MANY_WRONG = "Too many wrong codes within an hour. Open the alert in Tocsin."


def code_of(user_id: int, alert_id: int) -> str:
    """The four digits that answers of the user about the alert carry."""
    # A key of its own, so that nothing else that is signed here says what a code is.
    key = hashlib.sha256(f"reply code:{crypto.keys()[0]}".encode()).digest()
    number = int.from_bytes(hmac.digest(key, f"{user_id} {alert_id}".encode(), "sha256")[:8])
    return f"{number % 10_000:04}"


def split(text: str) -> tuple[str, str]:
    """What stands before the code, and the code; empty where the text does not end with one."""
    found = _CODE.fullmatch(text)
    return (found[1], found[2]) if found else (text, "")


def refuse(user_id: int, alert_ids: Collection[int], code: str, command: CommandKind) -> str:
    """Why an answer with that code is not taken, and how it would be; empty where it is the code of one of the alerts.

    The sentence goes to the number that the user has, never to one who forged it.
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
