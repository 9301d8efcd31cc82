"""Slack's slash command: verifies its signature and replies to the user who typed it.

https://docs.slack.dev/authentication/verifying-requests-from-slack
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Sequence
from datetime import datetime

from tocsin.catalogue.hooks import Headers, MessageOutcome, Payload, SenderReply
from tocsin.core.reasons import each_of

#: Seconds after which a request is rejected as a replay attack.
_MAX_AGE_SECONDS = 300

_CLOSING = ("close", "resolve", "done")

#: A name to close the problem by: `#vpn`. Channel references (`<#C123|ops>`) do not match.
_NAME = re.compile(r"(?<![\w<&])#([A-Za-z][\w-]{0,39})")


def is_signed(body: bytes, headers: Headers, secret: str, now: datetime) -> bool:
    """Verifies `X-Slack-Signature`: HMAC-SHA256 of `v0:TIMESTAMP:BODY`, at most five minutes old."""
    timestamp = headers.get("x-slack-request-timestamp", "")
    if not timestamp.isdecimal() or len(timestamp) > 12 or abs(now.timestamp() - int(timestamp)) > _MAX_AGE_SECONDS:
        return False
    digest = hmac.new(secret.encode(), b"v0:" + timestamp.encode() + b":" + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(f"v0={digest}".encode(), headers.get("x-slack-signature", "").encode("utf-8", "replace"))


def messages(payload: Payload, headers: Headers) -> list[Payload]:
    """Adds the parsed action to the command and removes Slack's secrets."""
    if "action" in payload:
        return [payload]
    text = str(payload.get("text") or "").strip()[:3000]
    word = text.partition(" ")[0].lower()
    fields = {name: value for name, value in payload.items() if name not in ("token", "response_url", "trigger_id")}
    name_match = _NAME.search(text)
    if name_match is not None:
        fields["name"] = name_match.group(1).lower()
    if word in _CLOSING and name_match is not None:
        return [{**fields, "action": "close"}]
    if not text or word in ("help", *_CLOSING):
        return [{**fields, "action": "help"}]
    return [{**fields, "action": "open", "subject": text}]


def reply(outcomes: Sequence[MessageOutcome]) -> SenderReply:
    """Returns the ephemeral message that Slack shows to the user who typed the command."""
    outcome = outcomes[0]
    match outcome.status:
        case "Mapped Opened":
            text = f"Alert {outcome.alert_id} is open."
        case "Mapped Appended" | "Mapped Updated":
            text = f"Alert {outcome.alert_id} is open already: counted."
        case "Mapped Closed":
            text = f"Alert {outcome.alert_id} is closed."
        case "Pending":
            text = "Taken; it is decided within seconds."
        case _:
            last = each_of(outcome.reason)[-1]
            # What the rule that decided had as its effect, if that is said.
            text = f"No alert: {dict(last.params).get('effect', last)}."
    return SenderReply(200, json.dumps({"response_type": "ephemeral", "text": text}).encode())
