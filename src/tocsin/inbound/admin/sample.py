"""Posts a kind's sample to an integration's own public URL, through the same DNS, proxy and certificate as its sender.

The message is stored like any other; the alert has a TEST badge and pages only the user who sent the sample.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote_plus
from uuid import UUID

import msgspec

from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.catalogue.kinds import Sample, load_kinds
from tocsin.core.config import environment
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import (
    REDIRECTS,
    REDIRECTS_SOMEWHERE,
    SET_FINAL_URL,
    CertificateRejected,
    EgressResponse,
    HttpClient,
)
from tocsin.core.reasons import Reason, Text, sentence, show_reason
from tocsin.core.runtime import clock
from tocsin.core.validation.inputs import AT_PATH
from tocsin.inbound import ingest_service
from tocsin.inbound.admin import secrets
from tocsin.inbound.config.normalizer import NormalizedEvent, Normalizer
from tocsin.inbound.ingest_service import WebhookTestToken
from tocsin.inbound.inspect import normalizer_of_version
from tocsin.inbound.models import InboundMessage, Integration
from tocsin.inbound.parsing.decode import elements_of

# ---------- ids that no message had before, so that a sample is no duplicate and hits no existing alert
# An id may be in the body literally, or be composed of several of its values: then one of those is replaced. Each
# attempt is parsed again, and counts only if the message still requests the same.

#: HaloITSM's ticket ids have 32 bits; sample ids are above that, so that no ticket ever has one.
_FIRST_NUMBER = 9_000_000_000
_NUMBER_COUNT = 1_000_000_000

#: Values to replace first: they look like a unique identifier.
_GUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.I)
_HEX = re.compile(r"(?=.*[0-9])[0-9a-f]{12,}", re.I)

#: The maximum number of attempts for one id.
_MAX_ATTEMPTS = 24


def with_fresh_ids(normalizer: Normalizer, sample: Sample, test_token: WebhookTestToken) -> tuple[str, bytes]:
    """Returns the first message's new id, and the sample's body with new ids and delivery ids.

    Numbers, GUIDs and hexadecimal ids keep their form; any other id becomes `TEST-…`. A body that is unreadable, has no
    id, or has an id that does not come from the body, is returned unchanged.
    """
    body = sample.body
    events = _normalized_events(normalizer, sample, body)
    for index, event in enumerate(events):
        if event is not None:
            replacement = _IdReplacement(normalizer, sample, index, test_token.number + index)
            body = replacement.with_new_id(body, "source_id")
            body = replacement.with_new_id(body, "delivery_id")
    new_events = _normalized_events(normalizer, sample, body) if body is not sample.body else events
    first_event = new_events[0] if new_events else None
    return (first_event.source_id or "" if first_event is not None else ""), body


@dataclass(frozen=True, slots=True)
class _IdReplacement:
    """Replaces the ids of one message in a body."""

    normalizer: Normalizer
    sample: Sample
    index: int
    number: int

    def with_new_id(self, body: bytes, name: str) -> bytes:
        """Returns `body` with a new value for the field `name`; unchanged if there is none or it is new already."""
        event = self._event(body)
        old_id = _id(event, name)
        original = self._event(self.sample.body)
        if event is None or old_id is None or old_id != _id(original, name):
            return body
        for part in _replacement_candidates(old_id, event.payload):
            for new_id in self._similar_ids(part):
                candidate = _replace_id(body, part, new_id, self.sample.content_type)
                if candidate != body and self._has_same_meaning(event, candidate, name):
                    return candidate
        return body

    def _has_same_meaning(self, event: NormalizedEvent, body: bytes, name: str) -> bool:
        new_event = self._event(body)
        if new_event is None or _id(new_event, name) == _id(event, name):
            return False
        compared_fields = ("priority", "source_status", "event", "source_time")
        return new_event.action is event.action and all(
            new_event.mapped.values.get(field_name) == event.mapped.values.get(field_name)
            for field_name in compared_fields
        )

    def _event(self, body: bytes) -> NormalizedEvent | None:
        events = _normalized_events(self.normalizer, self.sample, body)
        return events[self.index] if self.index < len(events) else None

    def _similar_ids(self, text: str) -> Iterator[str]:
        numeric_id = str(_FIRST_NUMBER + self.number % _NUMBER_COUNT)
        if text.isdecimal():
            yield numeric_id
        elif _GUID.fullmatch(text):
            # In the sender's spelling: some kinds tell a GUID from a name by nothing else.
            yield str(uuid.UUID(int=uuid.UUID(text).int ^ self.number << 32))
        elif _HEX.fullmatch(text):
            yield f"{self.number:016x}".rjust(len(text), "0")[-len(text) :]
        yield f"TEST-{self.number % 2**64:016x}"[:13]
        yield numeric_id


def _id(event: NormalizedEvent | None, name: str) -> str | None:
    if event is None:
        return None
    return event.source_id if name == "source_id" else event.delivery_id


def _normalized_events(normalizer: Normalizer, sample: Sample, body: bytes) -> list[NormalizedEvent | None]:
    """Returns the event of each message in a body, or None for an unreadable message."""
    try:
        elements = elements_of(normalizer.kind, body, sample.content_type).elements
    except Rejected:
        return []
    results = [normalizer.normalize(element) for element in elements]
    return [result if isinstance(result, NormalizedEvent) else None for result in results]


def _replacement_candidates(full_id: str, payload: object) -> list[str]:
    """Returns candidates for replacement: the whole id, then values that it is composed of, likeliest first."""
    candidates = {
        text
        for text in _texts(payload)
        if text and text != full_id and re.search(rf"(?<![0-9A-Za-z]){re.escape(text)}(?![0-9A-Za-z])", full_id)
    }
    ranked = sorted(
        candidates, key=lambda text: (not (_GUID.fullmatch(text) or _HEX.fullmatch(text)), -len(text), text)
    )
    return [full_id, *ranked][:_MAX_ATTEMPTS]


def _texts(payload: object) -> Iterator[str]:
    if isinstance(payload, Mapping):
        for value in payload.values():
            yield from _texts(value)
    elif isinstance(payload, list | tuple):
        for value in payload:
            yield from _texts(value)
    elif isinstance(payload, str):
        yield payload.strip()
    elif isinstance(payload, int | float) and not isinstance(payload, bool):
        yield str(payload)


def _replace_id(body: bytes, old: str, new: str, content_type: str) -> bytes:
    """Replaces each `old`, ignoring case, unless it is part of a longer word or number."""
    is_form = content_type.startswith("application/x-www-form-urlencoded")
    # In a form, a word may follow a percent escape, as in %23vpn.
    prefix_pattern = rb"(?:(?<![0-9A-Za-z])|(?<=%[0-9A-Fa-f]{2}))" if is_form else rb"(?<![0-9A-Za-z])"
    encoded_id = (quote_plus(old) if is_form else old).encode()
    return re.sub(prefix_pattern + re.escape(encoded_id) + rb"(?![0-9A-Za-z])", new.encode(), body, flags=re.I)


_DEADLINE = 15.0
_MAX_SHOWN_CHARS = 120

_CHECK_ADDRESS = Text("Check the public URL, the name's DNS entry, the proxy and the firewall.")


@dataclass(frozen=True, slots=True)
class SampleResult:
    """The response of the public URL, and the outcome of the sample."""

    sample: str
    source_id: str
    message_id: UUID
    status: str
    reason: Reason
    alert_id: int | None
    #: Round-trip time in milliseconds.
    took: int

    def to_json(self) -> dict[str, Any]:
        """Returns the result as plain JSON values."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return {**plain, "reason": show_reason(self.reason)}


def send_sample(
    integration: Integration,
    actor: AuditActor,
    sample: str | None = None,
    *,
    now: datetime,
    client: HttpClient | None = None,
) -> SampleResult:
    """Posts a sample of the integration's kind (by name; None: one that opens an alert) and returns the outcome.

    The actor's user is paged. Raises Rejected("needs_person") without a user, Rejected("invalid") for an unknown sample
    and Rejected("not_possible") for a kind without samples; Permanent, with a message for users, if the public URL does
    not lead to this installation.
    """
    if actor.user_id is None:
        raise Rejected("needs_person", sentence("A sample pages the user who sends it. Sign in or use an API token."))
    selected = _select_sample(integration, sample)
    text, test = ingest_service.issue_test_token(integration.pk, actor.user_id, now)
    source_id, body = with_fresh_ids(normalizer_of_version(integration, integration.current_version), selected, test)
    http_client = client or HttpClient(trusted=True)
    started = time.monotonic()
    try:
        response = _post(
            http_client,
            f"{secrets.url_of(integration)}/{ingest_service.TEST_SEGMENT}/{text}",
            integration,
            selected,
            body,
        )
    finally:
        if client is None:
            http_client.close()
    result = _read_result(integration, selected, source_id, response, round((time.monotonic() - started) * 1000))
    audit.record(
        actor,
        "send_sample",
        now=now,
        object_type="integration",
        object_id=integration.pk,
        object_name=integration.name,
        group_id=integration.group_id,
        after={"sample": selected.name, "message": str(result.message_id), "status": result.status},
    )
    return result


def _select_sample(integration: Integration, name: str | None) -> Sample:
    kind = load_kinds().get(integration.kind)
    if kind is None or not kind.samples:
        raise Rejected(
            "not_possible", sentence("The catalogue has no sample for {integration}.", integration=integration.name)
        )
    by_name = {sample.name: sample for sample in kind.samples}
    if name is None and kind.first_sample not in by_name:
        # The first one that opens an alert by itself.
        opening_samples = (
            s for s in kind.samples if not s.before and not s.settings and s.expect[0].status == "Mapped Opened"
        )
        return next(opening_samples, kind.samples[0])
    if (chosen := by_name.get(name or kind.first_sample)) is not None:
        return chosen
    problem = sentence(
        '{kind} has no sample "{sample}"; it has {samples}.',
        kind=kind.title,
        sample=name or "",
        samples=", ".join(by_name),
    )
    raise Rejected("invalid", AT_PATH(path="sample", problem=problem), "sample")


def _post(client: HttpClient, url: str, integration: Integration, sample: Sample, body: bytes) -> EgressResponse:
    public = environment.current().public_url
    headers = {
        "Content-Type": sample.content_type,
        "User-Agent": "Tocsin (a sample)",
        **_credentials(integration, body),
    }
    try:
        return client.request("POST", url, headers=headers, content=body, deadline=_DEADLINE)
    except CertificateRejected as error:
        raise Permanent(
            sentence("Senders that check certificates cannot reach {url}: {problem}", url=public, problem=error.reason),
            sentence("Install a valid certificate for this name, with its whole chain."),
        ) from None
    except Temporary as error:
        reason = sentence("{url} cannot be reached from here: {problem}", url=public, problem=error.reason)
        raise Permanent(reason, _CHECK_ADDRESS()) from None
    except Permanent as error:
        reason = sentence("{url} cannot be requested: {problem}", url=public, problem=error.reason)
        raise Permanent(reason, error.remedy_reason or _CHECK_ADDRESS()) from None


def _credentials(integration: Integration, body: bytes) -> dict[str, str]:
    """Returns the headers with the credentials that the integration requires of its senders."""
    credentials = secrets.credentials_of(integration)
    headers: dict[str, str] = {}
    if header := credentials.get("header"):
        headers[header["name"]] = header["value"]
    if signature := credentials.get("hmac"):
        signed_text = body
        if time_header := signature.get("timestamp_header"):
            headers[time_header] = str(int(clock.now().timestamp()))
            signed_text = headers[time_header].encode() + b":" + body
        headers[signature["header"]] = hmac.new(signature["secret"].encode(), signed_text, hashlib.sha256).hexdigest()
    if basic := credentials.get("basic"):
        pair = f"{basic['username']}:{basic['password']}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    return headers


class _ResponseBody(msgspec.Struct):
    """The webhook's response: about one message, about several, or an error."""

    message_id: UUID | None = None
    error: str = ""
    detail: str = ""
    messages: list[_ResponseBody] = []


def _read_result(
    integration: Integration, sample: Sample, source_id: str, response: EgressResponse, took: int
) -> SampleResult:
    message_id = _message_id_of(response)
    row = InboundMessage.objects.filter(pk=message_id, integration=integration).first()
    if row is None:
        raise Permanent(
            sentence(
                "{url} responded like Tocsin, but the sample did not arrive here.", url=environment.current().public_url
            ),
            sentence("Another Tocsin installation, or one with another database, responds at that address."),
        )
    return SampleResult(sample.name, source_id, row.pk, row.status, row.reason, row.alert_id, took)


def _message_id_of(response: EgressResponse) -> UUID:
    """Returns the message id in the webhook's response. Raises Permanent for any other response."""
    public = environment.current().public_url
    if response.status in (301, 302, 303, 307, 308):
        target = response.headers.get("location", "").split("/in/")[0][:_MAX_SHOWN_CHARS]
        reason = REDIRECTS(url=public, target=target) if target else REDIRECTS_SOMEWHERE(url=public)
        raise Permanent(reason, SET_FINAL_URL())
    try:
        body = msgspec.json.decode(response.body, type=_ResponseBody)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise _foreign_response_error(response) from None
    message_id = body.message_id or next((message.message_id for message in body.messages), None)
    if message_id is not None:
        return message_id
    if not body.error:
        raise _foreign_response_error(response)
    error_text = (body.detail or body.error).rstrip(".")
    raise Permanent(
        sentence("{url} answered {status}: {error}.", url=public, status=str(response.status), error=error_text),
        sentence("If Tocsin did not send this response, check where the proxy forwards /in/."),
    )


def _foreign_response_error(response: EgressResponse) -> Permanent:
    text = " ".join(re.sub(r"<[^>]*>", " ", response.body.decode("utf-8", "replace")).split())[:_MAX_SHOWN_CHARS]
    url, status = environment.current().public_url, str(response.status)
    reason = (
        sentence(
            "{url} returned {status}, which is not a response from Tocsin: “{text}”.", url=url, status=status, text=text
        )
        if text
        else sentence("{url} returned {status}, which is not a response from Tocsin.", url=url, status=status)
    )
    return Permanent(reason, sentence("Check that the proxy forwards /in/ to Tocsin unchanged."))
