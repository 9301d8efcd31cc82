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
from tocsin.core.reasons import NO_REASON, AlertRef, Reason, ReasonType
from tocsin.notify.text.command_parser import word_of

#: The maximum number of wrong codes within `_WINDOW` seconds. There are ten thousand codes.
MAX_WRONG = 5
_WINDOW = 3600

#: The code at the end: "ACK 42 7391", "ACK ALL 7391", "REPLY 42 On my way 7391".
_CODE = re.compile(r"(.*\S)\s+([0-9]{4})[\s.!]*", re.DOTALL)

_TOO_MANY_WRONG = ReasonType(
    "command.too_many_wrong_codes", "Too many wrong codes within an hour. Open the alert in Tocsin."
)
_CODE_REQUIRED = ReasonType(
    "command.code_required", "Nothing was done: a reply must end with the code of its alert. Send {example}."
)
_WITH_TEXT = ReasonType("command.example_with_text", "{command} {alert} text {code}")
TOO_MANY_WRONG = _TOO_MANY_WRONG()


def code_of(user_id: int, alert_id: int) -> str:
    """Returns the four-digit code for the user's replies about the alert."""
    # A separate key, so that no other signature reveals a code.
    key = hashlib.sha256(f"reply code:{crypto.keys()[0]}".encode()).digest()
    number = int.from_bytes(hmac.digest(key, f"{user_id} {alert_id}".encode(), "sha256")[:8])
    return f"{number % 10_000:04}"


def split(text: str) -> tuple[str, str]:
    """Returns the text before the code, and the code; the code is empty if the text does not end with one."""
    match = _CODE.fullmatch(text)
    return (match[1], match[2]) if match else (text, "")


def find_rejection(user_id: int, alert_ids: Collection[int], code: str, command: CommandKind) -> Reason:
    """Returns why a reply with that code is rejected and what a correct one looks like; empty if the code belongs to
    one of the alerts.

    The sentence is sent to the user's stored number, never to the forger.
    """
    if code:
        cache_key = f"wrong reply codes of {user_id}"
        cache.add(cache_key, 0, _WINDOW)
        if cache.incr(cache_key) > MAX_WRONG:
            return TOO_MANY_WRONG
        if any(hmac.compare_digest(code, code_of(user_id, alert_id)) for alert_id in alert_ids):
            cache.decr(cache_key)
            return NO_REASON
    first = next(iter(alert_ids))
    word, expected = word_of(command), code_of(user_id, first)
    if command is CommandKind.REPLY:
        return _CODE_REQUIRED(example=_WITH_TEXT(command=word, alert=AlertRef(first), code=expected))
    return _CODE_REQUIRED(example=f"{word} {first} {expected}")
