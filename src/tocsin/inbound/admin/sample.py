"""Posts a kind's sample to an integration's own public URL, through the same DNS, proxy and certificate as its sender.

The message is stored like any other; the alert has a TEST badge and pages only the user who sent the sample.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.catalogue.kinds import IntegrationKind, Sample, load_kinds
from tocsin.core.config import environment
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import EgressResponse, HttpClient
from tocsin.core.reasons import Reason
from tocsin.core.runtime import clock
from tocsin.inbound.admin import secrets
from tocsin.inbound.http import test_token
from tocsin.inbound.inspect.message_explanation import normalizer_of_version
from tocsin.inbound.inspect.sample_ids import with_fresh_ids
from tocsin.inbound.models import InboundMessage, Integration

_DEADLINE = 15.0
_MAX_SHOWN_CHARS = 120

_UNREACHABLE_REMEDY = "Check TOCSIN_BASE_URL, the name's DNS entry, the proxy and the firewall."


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
        return {**plain, "reason": str(self.reason)}


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
        raise Rejected("needs_person", "A sample pages whoever sends it: sign in, or use a token.")
    selected = _select_sample(integration, sample)
    text, test = test_token.issue(integration.pk, actor.user_id, now)
    source_id, body = with_fresh_ids(normalizer_of_version(integration, integration.current_version), selected, test)
    http_client = client or HttpClient(trusted=True)
    started = time.monotonic()
    try:
        response = _post(
            http_client, f"{secrets.url_of(integration)}/{test_token.SEGMENT}/{text}", integration, selected, body
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
        after={"sample": selected.name, "message": str(result.message_id), "status": result.status},
    )
    return result


def _select_sample(integration: Integration, name: str | None) -> Sample:
    kind = load_kinds().get(integration.kind)
    if kind is None or not kind.samples:
        raise Rejected("not_possible", f"The catalogue has no sample for {integration.name}.")
    if name is None:
        return _first_sample(kind)
    for sample in kind.samples:
        if sample.name == name:
            return sample
    known = ", ".join(sample.name for sample in kind.samples)
    raise Rejected("invalid", f'sample: {kind.title} has no sample "{name}"; it has {known}.', "sample")


def _first_sample(kind: IntegrationKind) -> Sample:
    """Returns the kind's `first_sample`, else the first sample that opens an alert by itself."""
    by_name = {sample.name: sample for sample in kind.samples}
    if kind.first_sample in by_name:
        return by_name[kind.first_sample]
    opening_samples = (
        s for s in kind.samples if not s.before and not s.settings and s.expect[0].status == "Mapped Opened"
    )
    return next(opening_samples, kind.samples[0])


def _post(client: HttpClient, url: str, integration: Integration, sample: Sample, body: bytes) -> EgressResponse:
    public = environment.current().public_url
    headers = {
        "Content-Type": sample.content_type,
        "User-Agent": "Tocsin (a sample)",
        **_credentials(integration, body),
    }
    try:
        return client.request("POST", url, headers=headers, content=body, deadline=_DEADLINE)
    except Temporary as error:
        if "certificate" in error.detail.casefold():
            detail = f"Senders that check certificates cannot reach {public}: {error.detail}"
            raise Permanent(detail, "It needs a certificate for this name that is valid, with its chain.") from None
        raise Permanent(f"{public} cannot be reached from here: {error.detail}", _UNREACHABLE_REMEDY) from None
    except Permanent as error:
        raise Permanent(f"{public} cannot be called: {error.detail}", error.remedy or _UNREACHABLE_REMEDY) from None


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
            f"{environment.current().public_url} answered as Tocsin does, but the sample did not arrive here.",
            "Another installation of Tocsin answers at that address, or one with another database.",
        )
    return SampleResult(sample.name, source_id, row.pk, row.status, row.reason, row.alert_id, took)


def _message_id_of(response: EgressResponse) -> UUID:
    """Returns the message id in the webhook's response. Raises Permanent for any other response."""
    public = environment.current().public_url
    if response.status in (301, 302, 303, 307, 308):
        redirect_target = response.headers.get("location", "somewhere else").split("/in/")[0][:_MAX_SHOWN_CHARS]
        detail = f"{public} sends senders on to {redirect_target}; most senders do not follow."
        raise Permanent(detail, "Set TOCSIN_BASE_URL to the address that answers by itself.")
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
    detail = f"{public} answered {response.status}: {error_text}."
    raise Permanent(detail, "If this is not this Tocsin's own answer, check where the proxy sends /in/.")


def _foreign_response_error(response: EgressResponse) -> Permanent:
    text = " ".join(re.sub(r"<[^>]*>", " ", response.body.decode("utf-8", "replace")).split())[:_MAX_SHOWN_CHARS]
    excerpt = f": “{text}”" if text else ""
    detail = f"{environment.current().public_url} answered {response.status}, which is not Tocsin's answer{excerpt}."
    return Permanent(detail, "Check that the proxy sends /in/ on to Tocsin unchanged.")
