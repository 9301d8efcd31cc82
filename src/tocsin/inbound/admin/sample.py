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
from tocsin.core.runtime import clock
from tocsin.inbound.admin import secrets
from tocsin.inbound.http import test_token
from tocsin.inbound.inspect.message_explanation import reader_of
from tocsin.inbound.inspect.sample_ids import with_fresh_ids
from tocsin.inbound.models import InboundMessage, Integration

_DEADLINE = 15.0
_SHOWN = 120

_CHECK = "Check TOCSIN_BASE_URL, the name's DNS entry, the proxy and the firewall."


@dataclass(frozen=True, slots=True)
class SampleResult:
    """The response of the public URL, and the outcome of the sample."""

    sample: str
    source_id: str
    message_id: UUID
    status: str
    reason: str
    alert_id: int | None
    #: Round-trip time in milliseconds.
    took: int

    def to_json(self) -> dict[str, Any]:
        """Returns the result as plain JSON values."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


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
    chosen = _chosen(integration, sample)
    text, test = test_token.issue(integration.pk, actor.user_id, now)
    source_id, body = with_fresh_ids(reader_of(integration, integration.current_version), chosen, test)
    own = client or HttpClient(trusted=True)
    begun = time.monotonic()
    try:
        answer = _post(own, f"{secrets.url_of(integration)}/{test_token.SEGMENT}/{text}", integration, chosen, body)
    finally:
        if client is None:
            own.close()
    sent = _read(integration, chosen, source_id, answer, round((time.monotonic() - begun) * 1000))
    audit.record(
        actor,
        "send_sample",
        now=now,
        object_type="integration",
        object_id=integration.pk,
        object_name=integration.name,
        after={"sample": chosen.name, "message": str(sent.message_id), "status": sent.status},
    )
    return sent


def _chosen(integration: Integration, name: str | None) -> Sample:
    kind = load_kinds().get(integration.kind)
    if kind is None or not kind.samples:
        raise Rejected("not_possible", f"The catalogue has no sample for {integration.name}.")
    if name is None:
        return _first(kind)
    for sample in kind.samples:
        if sample.name == name:
            return sample
    known = ", ".join(sample.name for sample in kind.samples)
    raise Rejected("invalid", f'sample: {kind.title} has no sample "{name}"; it has {known}.', "sample")


def _first(kind: IntegrationKind) -> Sample:
    """Returns the kind's `first_sample`, else the first sample that opens an alert by itself."""
    by_name = {sample.name: sample for sample in kind.samples}
    if kind.first_sample in by_name:
        return by_name[kind.first_sample]
    opens = (s for s in kind.samples if not s.before and not s.settings and s.expect[0].status == "Mapped Opened")
    return next(opens, kind.samples[0])


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
        raise Permanent(f"{public} cannot be reached from here: {error.detail}", _CHECK) from None
    except Permanent as error:
        raise Permanent(f"{public} cannot be called: {error.detail}", error.remedy or _CHECK) from None


def _credentials(integration: Integration, body: bytes) -> dict[str, str]:
    """Returns the headers with the credentials that the integration requires of its senders."""
    known = secrets.credentials_of(integration)
    headers: dict[str, str] = {}
    if header := known.get("header"):
        headers[header["name"]] = header["value"]
    if signature := known.get("hmac"):
        signed = body
        if time_header := signature.get("timestamp_header"):
            headers[time_header] = str(int(clock.now().timestamp()))
            signed = headers[time_header].encode() + b":" + body
        headers[signature["header"]] = hmac.new(signature["secret"].encode(), signed, hashlib.sha256).hexdigest()
    if basic := known.get("basic"):
        pair = f"{basic['username']}:{basic['password']}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    return headers


class _ResponseBody(msgspec.Struct):
    """The webhook's response: about one message, about several, or an error."""

    message_id: UUID | None = None
    error: str = ""
    detail: str = ""
    messages: list[_ResponseBody] = []


def _read(integration: Integration, sample: Sample, source_id: str, answer: EgressResponse, took: int) -> SampleResult:
    message_id = _message_of(answer)
    row = InboundMessage.objects.filter(pk=message_id, integration=integration).first()
    if row is None:
        raise Permanent(
            f"{environment.current().public_url} answered as Tocsin does, but the sample did not arrive here.",
            "Another installation of Tocsin answers at that address, or one with another database.",
        )
    return SampleResult(sample.name, source_id, row.pk, row.status, row.reason, row.alert_id, took)


def _message_of(answer: EgressResponse) -> UUID:
    """Returns the message id in the webhook's response. Raises Permanent for any other response."""
    public = environment.current().public_url
    if answer.status in (301, 302, 303, 307, 308):
        place = answer.headers.get("location", "somewhere else").split("/in/")[0][:_SHOWN]
        detail = f"{public} sends senders on to {place}; most senders do not follow."
        raise Permanent(detail, "Set TOCSIN_BASE_URL to the address that answers by itself.")
    try:
        body = msgspec.json.decode(answer.body, type=_ResponseBody)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise _foreign(answer) from None
    found = body.message_id or next((one.message_id for one in body.messages), None)
    if found is not None:
        return found
    if not body.error:
        raise _foreign(answer)
    said = (body.detail or body.error).rstrip(".")
    detail = f"{public} answered {answer.status}: {said}."
    raise Permanent(detail, "If this is not this Tocsin's own answer, check where the proxy sends /in/.")


def _foreign(answer: EgressResponse) -> Permanent:
    text = " ".join(re.sub(r"<[^>]*>", " ", answer.body.decode("utf-8", "replace")).split())[:_SHOWN]
    said = f": “{text}”" if text else ""
    detail = f"{environment.current().public_url} answered {answer.status}, which is not Tocsin's answer{said}."
    return Permanent(detail, "Check that the proxy sends /in/ on to Tocsin unchanged.")
