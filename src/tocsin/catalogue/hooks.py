"""What a kind may do that its manifest cannot say: functions in an `__init__.py` beside its `integration.toml`.

Each is optional and pure but for `fetch`, which is handed to those that need an address of the sender's. A function
that raises costs its own message only: that is kept as `Mapping Failed` and can be replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import Protocol

#: A message's JSON object, or what stands for it.
type Payload = dict[str, object]

#: A request's headers by lower-case name.
type Headers = Mapping[str, str]


class Fetch(Protocol):
    """GETs a public https address and gives its body. Raises Temporary or Permanent."""

    def __call__(self, url: str) -> bytes: ...


@dataclass(frozen=True, slots=True)
class SenderReply:
    """How a sender is answered where Tocsin's own answer is not what it understands."""

    status: int
    body: bytes
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Sender:
    """The account or topic that a genuine message comes from."""

    name: str
    #: The one that the integration's settings name; empty: the first that comes is pinned.
    expected: str
    #: How a person changes which one is taken, as the end of a sentence.
    remedy: str


@dataclass(frozen=True, slots=True)
class MessageOutcome:
    """What became of one message, for a reply of the kind's own."""

    message_id: str
    status: str
    reason: str
    alert_id: int | None = None


@dataclass(frozen=True, slots=True)
class KindHooks:
    """The functions of one kind; None where it has none of that name.

    `messages(payload, headers)`: the messages in one payload, such as one for each alert of a group, at most 1,000.
    A payload that is one message already comes back as it is: what is stored is asked again at a replay or a test.
    `is_signed(body, headers, secret, now)`: whether the sender's own scheme of signature is right. It takes the
    place of HMAC-SHA256 over the body wherever the integration has a signature's secret.
    `refusal(payload, headers, fetch)`: why the sender is not who it says it is; None where it is. Runs in a thread.
    `sender(payload, settings)`: what a genuine message comes from; the integration is pinned to the first one.
    `handshake(payload, headers, fetch)`: the reply to a request that is no message but a question, such as whether
    somebody is there; None for a message. Runs in a thread, after `refusal`.
    `reply(told)`: the answer to messages that are stored, where the sender wants its own.
    """

    messages: Callable[[Payload, Headers], Sequence[Payload]] | None = None
    is_signed: Callable[[bytes, Headers, str, datetime], bool] | None = None
    refusal: Callable[[Payload, Headers, Fetch], str | None] | None = None
    sender: Callable[[Payload, Mapping[str, object]], Sender] | None = None
    handshake: Callable[[Payload, Headers, Fetch], SenderReply | None] | None = None
    reply: Callable[[Sequence[MessageOutcome]], SenderReply] | None = None


NONE = KindHooks()


def load(name: str) -> KindHooks:
    """The code of the kind `name`, whose folder has an `__init__.py`."""
    module = import_module(f"tocsin.catalogue.kinds.{name}")
    found = {function: getattr(module, function, None) for function in KindHooks.__slots__}
    if not any(found.values()):
        raise ValueError(f"{name}/__init__.py has none of the functions {', '.join(KindHooks.__slots__)}")
    return KindHooks(**found)
