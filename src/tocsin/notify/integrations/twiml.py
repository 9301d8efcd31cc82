"""Phone calls in TwiML, which several vendors understand: the documents, the parameters that start a call, and what a
vendor reports about one. The vendor's module sends the request and verifies the signature.

TwiML: https://www.twilio.com/docs/voice/twiml. Telnyx calls it TeXML:
https://developers.telnyx.com/docs/voice/programmable-voice/texml-fundamentals.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from xml.etree import ElementTree

from tocsin.core.delivery.circuit_breaker import FailureKind
from tocsin.core.reasons import NO_REASON, ReasonType, translatable
from tocsin.notify.channels.phone import sender
from tocsin.notify.integrations.vendor_http import callback_url
from tocsin.notify.interfaces import (
    Callback,
    CallbackResponse,
    CallPrompt,
    CallScript,
    CallState,
    EventReceiver,
    ProviderAccount,
    ProviderSetting,
    ProviderSettingType,
    Receipt,
    Rendered,
)
from tocsin.notify.rules.page_planner import MACHINE_ANSWERED
from tocsin.notify.states import ReceiptState

# ---------- documents
# A list of verbs in, XML out. Pure.


#: Characters that XML cannot contain, escaped or not (https://www.w3.org/TR/xml/#charsets). The vendor would read out
#: an error message instead.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

#: In seconds: how long the call waits for a key after the last word.
KEY_TIMEOUT_SECONDS = 8


@dataclass(frozen=True, slots=True)
class Verb:
    """One instruction to the vendor, such as `<Say>`, and those inside it."""

    name: str
    text: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    inner: tuple[Verb, ...] = ()


def document(*verbs: Verb) -> str:
    """Returns the document with these verbs."""
    body = ElementTree.tostring(_element(Verb("Response", inner=verbs)), encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>{body}'


def _element(verb: Verb) -> ElementTree.Element:
    attributes = {name: _NO_XML.sub(" ", text) for name, text in verb.attributes.items()}
    element = ElementTree.Element(verb.name, attributes)
    element.text = _NO_XML.sub(" ", verb.text)
    element.extend(map(_element, verb.inner))
    return element


def step(prompt: CallPrompt, action: str) -> tuple[Verb, ...]:
    """Returns one step of a call: what it says, and the URL that receives the pressed key. Without a key to press, the
    call ends.
    """
    script = prompt.script
    words = (*_say(prompt.speech, prompt.language), *(_script(script) if script is not None else ()))
    if not prompt.pending_digit and (script is None or not script.keys):
        return (*words, Verb("Hangup"))
    attributes = {"numDigits": "1", "timeout": str(KEY_TIMEOUT_SECONDS), "action": action, "method": "POST"}
    gather = Verb("Gather", attributes=attributes, inner=words)
    if script is None or not script.menu:
        return (gather,)
    # Repeat the key menu once: the user may just have woken up.
    return (gather, replace(gather, inner=_say(script.menu, script.language)))


def _script(script: CallScript) -> tuple[Verb, ...]:
    """The greeting, the problem twice, then the key menu."""
    message = _say(script.message, script.language)
    twice = (*message, Verb("Pause", attributes={"length": "1"}), *message) if message else ()
    return (*_say(script.greeting, script.language), *twice, *_say(script.menu, script.language))


def _say(text: str, language: str) -> tuple[Verb, ...]:
    return (Verb("Say", text, {"language": language}),) if text else ()


# ---------- starting a call


#: After this time, the phone's voicemail usually answers.
RING_SECONDS = 30

MACHINE_DETECTION = ProviderSetting(
    "machine_detection",
    translatable("Detect voicemail"),
    ProviderSettingType.FLAG,
    default=True,
    help=translatable(
        "A machine hears the message after its beep, and the call counts as not reached. Costs a small fee."
    ),
)


def call_parameters(
    account: ProviderAccount, rendered: Rendered, address: str, key: str, *, inline: str
) -> dict[str, Any]:
    """Returns the parameters that start a call. `inline` is the vendor's name of the one that takes a document."""
    number = sender(str(account.settings.get("from_number") or ""))
    parameters: dict[str, Any] = {"To": address, "From": number, "Timeout": str(RING_SECONDS)}
    if not account.callback_base_url:
        # Without a public address the vendor cannot fetch the script, so it is sent along, and keys do nothing.
        script = rendered.script or CallScript("", rendered.text, "")
        return {**parameters, inline: document(*step(script.without_keys(), ""))}
    if account.settings.get(MACHINE_DETECTION.name, True):
        parameters["MachineDetection"] = "DetectMessageEnd"
    return {
        **parameters,
        "Url": callback_url(account, "voice", n=key),
        "StatusCallback": callback_url(account, "status", n=key),
        # The early ones show that the vendor is making the call: without any, another vendor takes over.
        "StatusCallbackEvent": ["initiated", "ringing", "answered", "completed"],
    }


# ---------- what a vendor reports


XML = "text/xml; charset=utf-8"

_STATES = {
    # The call's own requests have already reported whether a person heard the message.
    "completed": ReceiptState.ENDED,
    "busy": ReceiptState.NOT_REACHED,
    "no-answer": ReceiptState.NOT_REACHED,
    "canceled": ReceiptState.NOT_REACHED,
}
BUSY = ReasonType("provider.phone_busy", "The phone was busy.")
NO_ANSWER = ReasonType("provider.call_not_answered", "No one picked up.")
CANCELLED = ReasonType("provider.call_cancelled", "The call was cancelled.")
OFF = ReasonType("provider.phone_off", "The phone was off or out of reach.")
NO_SUCH_NUMBER = ReasonType("provider.no_such_number", "The number is not in service.")
CALL_FAILED = ReasonType("provider.call_failed", "{vendor} could not make the call.")
_NOT_REACHED_REASONS = {"busy": BUSY(), "no-answer": NO_ANSWER(), "canceled": CANCELLED()}
#: SIP response codes of a failed call (RFC 3261, 21): the number is unavailable now, or does not exist. With any other
#: code, the vendor itself could not make the call.
_SIP_UNAVAILABLE, _NO_SUCH_NUMBER = "480", frozenset({"404", "410", "484", "604"})


def handle_call(
    vendor: str, account: ProviderAccount, callback: Callback, fields: Mapping[str, str], receiver: EventReceiver
) -> CallbackResponse:
    """Handles a vendor's request about a call: one for the next document, or a report on the call's state."""
    is_machine = bool(re.match(r"machine|fax", fields.get("AnsweredBy", "")))
    # Telnyx reports a detected machine to the status URL, and speaks what that answers.
    if callback.endpoint != "voice" and not (is_machine and fields.get("CallStatus") == "in-progress"):
        receiver.handle_receipt(receipt(vendor, callback.query.get("n", ""), fields, is_machine=is_machine))
        return CallbackResponse(204)
    state = CallState(
        key=callback.query.get("n", ""),
        external_id=fields.get("CallSid", ""),
        number=fields.get("From" if fields.get("Direction") == "inbound" else "To", ""),
        digits=fields.get("Digits", ""),
        pending_digit=callback.query.get("asked", ""),
        is_machine=is_machine,
    )
    prompt = receiver.handle_call(state)
    action = callback_url(account, "voice", n=state.key, asked=prompt.pending_digit)
    return CallbackResponse(200, document(*step(prompt, action)), XML)


def receipt(vendor: str, key: str, fields: Mapping[str, str], *, is_machine: bool = False) -> Receipt:
    """Returns what the state of a call says about its message."""
    external_id, status = fields.get("CallSid", ""), fields.get("CallStatus", "")
    if status == "completed" and is_machine:
        return Receipt(ReceiptState.NOT_REACHED, key, external_id, MACHINE_ANSWERED())
    if status != "failed":
        state, reason = _STATES.get(status, ReceiptState.IN_TRANSIT), _NOT_REACHED_REASONS.get(status, NO_REASON)
        return Receipt(state, key, external_id, reason)
    sip_code = fields.get("SipResponseCode") or fields.get("SipHangupCause", "")
    if sip_code == _SIP_UNAVAILABLE:
        return Receipt(ReceiptState.NOT_REACHED, key, external_id, OFF())
    if sip_code in _NO_SUCH_NUMBER:
        return Receipt(ReceiptState.FAILED, key, external_id, NO_SUCH_NUMBER(), FailureKind.NO_SUCH_ADDRESS)
    return Receipt(ReceiptState.FAILED, key, external_id, CALL_FAILED(vendor=vendor))
