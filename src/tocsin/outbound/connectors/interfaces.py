"""What a kind of outbound integration provides: its settings, and a sender that does what a call says.

A sender holds no database connection; what it needs of the database is handed to it as `Known`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net.egress import MAX_RESPONSE_BYTES, EgressResponse, HttpClient
from tocsin.core.validation.object_reader import ObjectReader
from tocsin.outbound.rate_limit import RequestRate
from tocsin.outbound.redaction import masked_text, masked_url

#: Of a request's and an answer's body so much is kept.
MAX_RECORDED_CHARS = 4_000


class Throttled(Temporary):
    """The other side says that it is too much now: everything to it waits, and this try does not count."""


class NeedsAttention(Permanent):
    """Nothing can be sent until a person acts: a secret that is refused, a right that is lost, a wrong address."""


@dataclass(frozen=True, slots=True)
class RecordedExchange:
    """One request and its answer, without secrets."""

    at: datetime
    took: int
    method: str
    url: str
    request: str = ""
    status: int | None = None
    response: str = ""
    error: str = ""


class RecordedClient:
    """Sends the requests of one call, and remembers what was said. Not for several threads. `before` is called before
    each request, and what it raises ends the call."""

    def __init__(
        self,
        client: HttpClient,
        now: Callable[[], datetime],
        secrets: Sequence[str] = (),
        before: Callable[[], None] | None = None,
    ) -> None:
        self.said: list[RecordedExchange] = []
        self._before = before
        self._client = client
        self._now = now
        self._secrets = tuple(secret for secret in secrets if len(secret) >= 4)

    @property
    def requests(self) -> int:
        """How many requests have left."""
        return len(self.said)

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        shown: str | None = None,
        shown_url: str | None = None,
        most_bytes: int = MAX_RESPONSE_BYTES,
    ) -> EgressResponse:
        """One request; `shown` and `shown_url` take the place of the body and the address in the log. Raises what
        `HttpClient.request` raises."""
        if self._before is not None:
            self._before()
        at, begun = self._now(), time.monotonic()
        said = self.masked(shown if shown is not None else content[: 2 * MAX_RECORDED_CHARS].decode("utf-8", "replace"))

        def keep(status: int | None, response: str, error: str = "") -> None:
            took = round((time.monotonic() - begun) * 1000)
            self.said.append(
                RecordedExchange(
                    at,
                    took,
                    method,
                    shown_url or masked_url(self.masked(url)),
                    said,
                    status,
                    self.masked(response),
                    error,
                )
            )

        try:
            answer = self._client.request(method, url, headers=headers, content=content, most_bytes=most_bytes)
        except (Temporary, Permanent) as error:
            keep(None, "", self.masked(error.detail))
            raise
        keep(answer.status, answer.body[: 2 * MAX_RECORDED_CHARS].decode("utf-8", "replace"))
        return answer

    def hide(self, secret: str) -> None:
        """Has a secret that came up on the way, such as a token, masked from now on."""
        self._secrets = (*self._secrets, secret)

    def masked(self, text: str) -> str:
        """`text` without secrets: the other side may have said them again."""
        for secret in self._secrets:
            text = text.replace(secret, "•••")
        return masked_text(text)[:MAX_RECORDED_CHARS].replace("\0", "\ufffd")


@dataclass(frozen=True, slots=True)
class CallJob:
    """A call that is to be made now."""

    id: int
    integration_id: int
    alert_id: int | None
    order_key: str
    action: str
    ticket: str
    content: Mapping[str, Any]
    attempts: int
    #: Whether an earlier try may have been carried out.
    is_uncertain: bool
    queued_at: datetime
    #: What of it is done already; a sender adds to it, and it is kept whatever comes of the try.
    progress: dict[str, Any] = field(default_factory=dict)
    #: What the connector asked the database for, in `prepare`.
    known: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CallDone:
    """The call was made."""

    #: What came of it, in words.
    result: str = ""
    #: Values of the answer that become custom fields of the alert.
    captured: Mapping[str, str] = field(default_factory=dict)
    #: The ticket on the other side, where this call made or found it.
    ticket: str = ""


class IntegrationSender(Protocol):
    """An open integration; used by several threads at once."""

    rate: RequestRate

    def send(self, job: CallJob, line: RecordedClient, now: datetime) -> CallDone:
        """Does what the job says. Raises Temporary, OutcomeUnknown, Throttled, Permanent or Barred."""
        ...

    def verify(self, line: RecordedClient, now: datetime) -> str:
        """Tries address and credentials and changes nothing; a sentence that says what works. Raises as `send`."""
        ...


@dataclass(frozen=True, slots=True)
class IntegrationAccount:
    """An integration's name, settings and secrets."""

    id: int
    name: str
    settings: Mapping[str, Any]
    secrets: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ConnectorKind:
    """One kind of outbound integration."""

    name: str
    title: str
    description: str
    #: Opens it. Raises Permanent for settings that cannot be used.
    open: Callable[[IntegrationAccount, HttpClient], IntegrationSender]
    #: Reads its settings from a spec, noting what is wrong there; and the names of its secrets.
    read: Callable[[ObjectReader], dict[str, Any]]
    secrets: tuple[str, ...]
    #: Of those, the ones without which an integration with these settings could send nothing.
    needed: Callable[[Mapping[str, Any]], tuple[str, ...]]
    #: Settings that are secrets themselves: see `hidden_settings`.
    hidden: tuple[str, ...] = ()


def retry_after(answer: EgressResponse) -> timedelta | None:
    """How long the other side asks to wait."""
    return answer.retry_after
