"""The interface of outbound connectors: settings, and a sender that executes calls.

A sender holds no database connection; `CallJob.known` carries the data it needs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, ClassVar, Protocol

from pydantic import Field

from tocsin.catalogue.desks import Desk
from tocsin.core.delivery.circuit_breaker import RateLimit
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net.egress import MAX_RESPONSE_BYTES, EgressResponse, HttpClient
from tocsin.core.reasons import NO_REASON, Reason
from tocsin.core.reasons import translatable as _
from tocsin.core.validation.spec import InForm, OwnedSpec
from tocsin.outbound.redaction import mask_reason, mask_text, mask_url

#: Recorded characters per request or response body.
MAX_RECORDED_CHARS = 4_000
#: Stored characters per text in the reason of an outcome.
MAX_REASON_TEXT_CHARS = 500


@dataclass(frozen=True, slots=True)
class RecordedExchange:
    """One request and its response, without secrets. `duration_ms` is in milliseconds."""

    at: datetime
    duration_ms: int
    method: str
    url: str
    request: str = ""
    status: int | None = None
    response: str = ""
    error: str = ""


class RecordedClient:
    """Sends and records the requests of one call. Not thread-safe.

    `before_request` is called before each request; an exception from it ends the call. A dry run reads and signs in
    (whose body is never logged), and sends nothing else.
    """

    def __init__(
        self,
        client: HttpClient,
        now: Callable[[], datetime],
        secrets: Sequence[str] = (),
        before_request: Callable[[], None] | None = None,
        *,
        is_dry_run: bool = False,
    ) -> None:
        self.exchanges: list[RecordedExchange] = []
        #: In a dry run: the requests that would change something, as method, URL and body.
        self.planned: list[tuple[str, str, str]] = []
        self.is_dry_run = is_dry_run
        self._before_request = before_request
        self._client = client
        self._now = now
        self._secrets = tuple(secret for secret in secrets if len(secret) >= 4)

    @property
    def requests(self) -> int:
        """The number of requests sent."""
        return len(self.exchanges)

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        logged_body: str | None = None,
        logged_url: str | None = None,
        max_bytes: int = MAX_RESPONSE_BYTES,
    ) -> EgressResponse:
        """Sends one request. `logged_body` and `logged_url` replace body and URL in the log.

        Raises the errors of `HttpClient.request`.
        """
        if self.is_dry_run and method != "GET" and logged_body is None:
            self.planned.append((method, mask_url(self.mask(url)), self.mask(content.decode("utf-8", "replace"))))
            return EgressResponse(200, {}, b"{}")
        if self._before_request is not None:
            self._before_request()
        at, started_at = self._now(), time.monotonic()
        request_text = self.mask(
            logged_body if logged_body is not None else content[: 2 * MAX_RECORDED_CHARS].decode("utf-8", "replace")
        )

        def record(status: int | None, response_text: str, error: str = "") -> None:
            duration_ms = round((time.monotonic() - started_at) * 1000)
            shown_url, response = logged_url or mask_url(self.mask(url)), self.mask(response_text)
            exchange = RecordedExchange(at, duration_ms, method, shown_url, request_text, status, response, error)
            self.exchanges.append(exchange)

        try:
            http_response = self._client.request(method, url, headers=headers, content=content, max_bytes=max_bytes)
        except (Temporary, Permanent) as error:
            record(None, "", self.mask(error.detail))
            raise
        record(http_response.status, http_response.body[: 2 * MAX_RECORDED_CHARS].decode("utf-8", "replace"))
        return http_response

    def mask_secret(self, secret: str) -> None:
        """Masks a secret that was obtained during the call, such as a token, from now on."""
        self._secrets = (*self._secrets, secret)

    def mask(self, text: str) -> str:
        """`text` without secrets, which the remote system may have echoed."""
        for secret in self._secrets:
            text = text.replace(secret, "•••")
        return mask_text(text)[:MAX_RECORDED_CHARS].replace("\0", "\ufffd")

    def mask_reason(self, reason: Reason) -> Reason:
        """`reason` without secrets, each text in it cut to what is stored."""
        return mask_reason(reason, lambda text: self.mask(text)[:MAX_REASON_TEXT_CHARS])


@dataclass(frozen=True, slots=True)
class CallJob:
    """A call to be made now."""

    id: int
    integration_id: int
    alert_id: int | None
    order_key: str
    action: str
    ticket: str
    content: Mapping[str, Any]
    attempts: int
    #: Whether an earlier attempt may have succeeded.
    is_uncertain: bool
    queued_at: datetime
    #: The steps done so far; the sender adds to it, and it is stored whatever the outcome.
    progress: dict[str, Any] = field(default_factory=dict)
    #: The data that the connector's `prepare` hook read from the database.
    prepared: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CallDone:
    """A successful call."""

    #: What was done.
    result: Reason = NO_REASON
    #: Values from the response that become custom fields of the alert.
    captured: Mapping[str, str] = field(default_factory=dict)
    #: The remote ticket that this call created or found.
    ticket: str = ""


class IntegrationSender(Protocol):
    """An open integration, used by several threads at once."""

    rate: RateLimit

    def send(self, job: CallJob, http_client: RecordedClient, now: datetime) -> CallDone:
        """Executes the job. Raises Temporary, OutcomeUnknown, Throttled, Permanent or NeedsAttention."""
        ...

    def verify(self, http_client: RecordedClient, now: datetime) -> Reason:
        """Checks address and credentials without changing anything. Returns what was found. Raises as `send`."""
        ...


@dataclass(frozen=True, slots=True)
class IntegrationAccount:
    """An integration's name, settings and secrets."""

    id: int
    name: str
    settings: Mapping[str, Any]
    secrets: Mapping[str, str] = field(repr=False)


class OutboundSpec(OwnedSpec):
    """An outbound integration. Its other keys depend on `kind`."""

    common_keys: ClassVar[frozenset[str]] = frozenset({"name", "group", "kind", "enabled"})

    group: Annotated[
        str,
        InForm(
            _("Owner group"),
            _("Managers of this group can edit it."),
            widget="group",
            empty=_("Administrators only"),
            is_last=True,
        ),
    ] = Field(
        default="",
        max_length=200,
        description="Group whose managers may change it. Default: only administrators.",
    )
    kind: str = Field(
        min_length=1,
        max_length=200,
        description="Kind of integration: `http`, or a ticket system such as `haloitsm`. It cannot be changed.",
    )
    is_enabled: Annotated[bool, InForm(_("Enabled"), is_last=True)] = Field(
        default=True, alias="enabled", description="Whether calls are sent."
    )

    def settings(self) -> dict[str, Any]:
        """The settings as stored, without secrets."""
        return {}

    def required_secrets(self) -> tuple[str, ...]:
        """The names of the secrets that these settings require."""
        return ()

    @property
    def agents_by_user(self) -> Mapping[str, str]:
        """The agents' numbers by username, of users who were matched by hand."""
        return {}


@dataclass(frozen=True, slots=True)
class ConnectorKind:
    """One kind of outbound integration."""

    name: str
    title: str
    description: str
    #: Opens an integration. Raises Permanent for unusable settings.
    open_sender: Callable[[IntegrationAccount, HttpClient], IntegrationSender]
    spec: type[OutboundSpec]
    secret_names: tuple[str, ...]
    #: Settings that contain secrets, stored as in `hidden_settings`.
    secret_settings: tuple[str, ...] = ()
    #: Of a ticket system: its name in sentences, the lists that can be read from it, and what its file says.
    label: str = ""
    #: A template of the address of `<ticket>`.
    ticket_url: str = ""
    list_names: tuple[str, ...] = ()
    desk: Desk | None = None

    @property
    def has_tickets(self) -> bool:
        return bool(self.label)

    @property
    def creates_tickets(self) -> bool:
        return self.has_tickets and (self.desk is None or self.desk.spec.create is not None)

    @property
    def sets_up_webhooks(self) -> bool:
        return self.has_tickets and (self.desk is None or bool(self.desk.spec.webhook))

    @property
    def inbound(self) -> str:
        """The inbound kind of its tickets."""
        return self.desk.inbound if self.desk is not None else self.name

    def can_write(self, *names: str) -> bool:
        """Whether an event can change these of a ticket: the code of a kind without a file can change all."""
        return self.desk is None or any(name in self.desk.changes for name in names)
