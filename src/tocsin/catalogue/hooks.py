"""Hooks of an integration kind: functions in the `__init__.py` beside its `integration.toml`, for logic that the
manifest cannot express.

Every hook is optional and, except for its use of `fetch`, pure. An exception in a hook affects only the message at
hand: that message is stored as `Mapping Failed` and can be replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import Final, Protocol

import msgspec

from tocsin.core.reasons import Reason, Text

#: A message's JSON object, or the object that a form, XML document or e-mail was decoded to.
type Payload = dict[str, object]

#: A request's headers by lower-case name.
type Headers = Mapping[str, str]


class Fetch(Protocol):
    """Downloads a public https URL and returns its body. Raises Temporary or Permanent."""

    def __call__(self, url: str) -> bytes: ...


@dataclass(frozen=True, slots=True)
class SenderReply:
    """An HTTP response for a sender that does not understand Tocsin's own response."""

    status: int
    body: bytes
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Sender:
    """The account or topic that an authentic message comes from."""

    name: str
    #: The sender configured in the integration's settings; empty: the first sender is pinned.
    expected: str
    #: How a user changes the accepted sender, as the end of a sentence.
    remedy: Reason


@dataclass(frozen=True, slots=True)
class MessageOutcome:
    """The outcome of one message, passed to a kind's own `reply`."""

    message_id: str
    status: str
    reason: Reason
    alert_id: int | None = None


@dataclass(frozen=True, slots=True)
class KindHooks:
    """The hooks of one kind; None where the kind does not define that hook.

    `messages(payload, headers)` splits a payload into at most 1,000 messages, for example one for each alert of a
    group. It must return an already split message unchanged, because replays and tests pass stored messages again.
    `is_signed(body, headers, secret, now)` verifies the sender's own signature scheme. It replaces HMAC-SHA256 over the
    body for integrations that have a signature secret.
    `refusal(payload, headers, fetch)` returns why the sender is not authentic, or None if it is. Runs in a thread.
    `sender(payload, settings)` returns the origin of an authentic message; the integration is pinned to the first one.
    `handshake(payload, headers, fetch)` returns the reply to a request that carries no message, such as a URL
    verification or a subscription confirmation; None for a message. Runs in a thread, after `refusal`.
    `reply(outcomes)` returns the response to stored messages for senders that expect their own format.
    """

    messages: Callable[[Payload, Headers], Sequence[Payload]] | None = None
    is_signed: Callable[[bytes, Headers, str, datetime], bool] | None = None
    refusal: Callable[[Payload, Headers, Fetch], Reason | None] | None = None
    sender: Callable[[Payload, Mapping[str, object]], Sender] | None = None
    handshake: Callable[[Payload, Headers, Fetch], SenderReply | None] | None = None
    reply: Callable[[Sequence[MessageOutcome]], SenderReply] | None = None


NO_HOOKS = KindHooks()


def load(name: str) -> KindHooks:
    """Imports the hooks of the kind `name`, whose folder has an `__init__.py`. Raises ValueError if it defines none."""
    module = import_module(f"tocsin.catalogue.kinds.{name}")
    functions = {function: getattr(module, function, None) for function in KindHooks.__slots__}
    if not any(functions.values()):
        raise ValueError(f"{name}/__init__.py has none of the functions {', '.join(KindHooks.__slots__)}")
    return KindHooks(**functions)


# ---------- embedded json
# JSON objects that senders put into a text: in a form field, or in the message of an envelope. Pure.


#: A text that is nested deeper is kept as text.
_MAX_DEPTH: Final = 50


def decode_object(text: object) -> Payload | None:
    """Returns the JSON object in a text; None for any other text or value."""
    if not isinstance(text, str) or not text.lstrip().startswith("{"):
        return None
    try:
        decoded = msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return decoded if isinstance(decoded, dict) and _is_shallow(decoded) else None


def _is_shallow(value: dict[str, object]) -> bool:
    level: list[dict[str, object] | list[object]] = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            inner
            for node in level
            for inner in (node.values() if isinstance(node, dict) else node)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return True
    return False


# ---------- reasons
# Why a setting of an integration is rejected.


# Problems of an integration's setting. Each completes a sentence that begins with its path.
SETTING_NOT_A_MAP = Text("must map values, such as 1 = New.")
SETTING_NOT_TEXT = Text("must be text of at most {maximum} characters.")
SETTING_NOT_POSITIVE = Text("must be greater than zero.")
SETTING_NOT_CRON = Text("must be five cron fields such as 0 3 * * *, which means 3:00 every day ({error}).")
SETTING_NOT_A_URL = Text("must be a URL such as https://acme.haloitsm.com.")
