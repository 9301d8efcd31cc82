"""Phone calls in TwiML, which several vendors understand: the documents, the parameters that start a call, and what a
vendor reports about one. First the calls that page somebody, then those to a hotline. The vendor's module sends the
requests and verifies the signature.

TwiML: https://www.twilio.com/docs/voice/twiml. Telnyx calls it TeXML:
https://developers.telnyx.com/docs/voice/programmable-voice/texml-fundamentals.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urljoin, urlsplit
from xml.etree import ElementTree

from django.templatetags.static import static
from django.utils.translation import get_language

from tocsin.core.delivery.circuit_breaker import FailureKind
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import EgressResponse
from tocsin.core.reasons import NO_REASON, ReasonType, Text, translatable
from tocsin.notify.channels.phone import is_phone_number, sender
from tocsin.notify.integrations import vendor_http
from tocsin.notify.integrations.vendor_http import HttpSender, callback_url
from tocsin.notify.interfaces import (
    Callback,
    CallbackResponse,
    CallPrompt,
    CallScript,
    CallState,
    CallStep,
    EventReceiver,
    Gather,
    HangUp,
    HotlineEvent,
    HotlineEventKind,
    Join,
    LiveState,
    Park,
    Pause,
    ProviderAccount,
    ProviderSetting,
    ProviderSettingType,
    Receipt,
    Record,
    Rendered,
    Say,
    WebhookEndpoint,
    WebhookProvider,
)
from tocsin.notify.rules.page_planner import MACHINE_ANSWERED
from tocsin.notify.states import ReceiptState
from tocsin.notify.text.formatting import spoken_phrase, voice_of

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

#: The early ones show that the vendor is making the call: without any, another vendor takes over.
STATUS_EVENTS = ["initiated", "ringing", "answered", "completed"]

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
        "StatusCallbackEvent": STATUS_EVENTS,
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


# ---------- documents of a hotline
# The caller waits in a conference. People are rung by REST, and the one who presses the key joins it.


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where vendors of TwiML differ."""

    vendor: str
    #: The parameter that takes a document instead of a URL.
    inline: str
    #: Attributes of a voicemail's `<Record>`.
    recording: Mapping[str, str]
    #: The attribute that switches transcription on, and the one with its callback.
    transcription: tuple[str, str]
    #: What the URL of a recording lacks.
    media_suffix: str = ""
    #: Hosts besides the API's from which recordings come, with their subdomains.
    media_hosts: tuple[str, ...] = ()


#: Ten seconds, played twice between two sentences.
_MUSIC, _MUSIC_LOOPS = "tocsin/hold-music.wav", "2"
_FALLBACK_RECORD = Record(max_seconds=300)


def hotline_document(dialect: Dialect, account: ProviderAccount, steps: Sequence[CallStep], leg: str = "") -> str:
    """Returns the document with these steps, of the caller's own call or of a leg."""
    return document(*(verb for each in steps for verb in _verbs(dialect, account, each, leg)))


def _verbs(dialect: Dialect, account: ProviderAccount, call_step: CallStep, leg: str) -> tuple[Verb, ...]:
    match call_step:
        case Say():
            return _say(call_step.text, call_step.language)
        case Pause():
            return (Verb("Pause", attributes={"length": str(call_step.seconds)}),)
        case HangUp():
            return (Verb("Hangup"),)
    ended = {"action": callback_url(account, "call-ended", leg=leg, step=call_step.name), "method": "POST"}
    match call_step:
        case Gather():
            action = callback_url(account, "call-key", leg=leg, step=call_step.name)
            attributes = {"numDigits": "1", "timeout": str(call_step.timeout_seconds)}
            words = tuple(verb for said in call_step.say for verb in _say(said.text, said.language))
            gather = Verb("Gather", attributes={**attributes, "action": action, "method": "POST"}, inner=words)
            # Without a key, the call goes on here.
            return (gather, Verb("Redirect", action, {"method": "POST"}))
        case Park():
            sentence = call_step.sentence
            attributes = {
                "startConferenceOnEnter": "false",
                "waitUrl": callback_url(account, "call-wait", say=sentence.text, language=sentence.language),
                "waitMethod": "POST",
                "statusCallback": callback_url(account, "call-conference"),
                "statusCallbackEvent": "join leave",
            }
            if call_step.is_recorded:
                attributes |= {"record": "record-from-start", **_recording_callback(account)}
            return (_conference(call_step.conference, attributes, ended),)
        case Join():
            return (_conference(call_step.conference, {"startConferenceOnEnter": "true"}, ended),)
        case Record():
            record = _record(dialect, account, call_step, ended)
            # Without a sound there is no recording, and the call goes on here.
            return (record, Verb("Redirect", ended["action"], {"method": "POST"}))


def _conference(name: str, attributes: Mapping[str, str], ended: Mapping[str, str]) -> Verb:
    # It ends when either leaves: nobody stays behind in it.
    both = {"endConferenceOnExit": "true", "beep": "false"}
    return Verb("Dial", attributes=ended, inner=(Verb("Conference", name, {**attributes, **both}),))


def _record(dialect: Dialect, account: ProviderAccount, recording: Record, ended: Mapping[str, str]) -> Verb:
    attributes = {"maxLength": str(recording.max_seconds), "finishOnKey": "#", "playBeep": "true", **ended}
    attributes |= {**dialect.recording, **_recording_callback(account)}
    if recording.is_transcribed:
        switch, callback = dialect.transcription
        attributes |= {switch: "true", callback: callback_url(account, "call-transcript")}
    return Verb("Record", attributes=attributes)


def _recording_callback(account: ProviderAccount) -> dict[str, str]:
    url = callback_url(account, "call-recording")
    return {"recordingStatusCallback": url, "recordingStatusCallbackEvent": "completed absent"}


def _wait_document(account: ProviderAccount, callback: Callback) -> str:
    """The sentence, 20 seconds of music, and again. Only these verbs may stand in it."""
    music = Verb("Play", urljoin(account.callback_base_url, static(_MUSIC)), {"loop": _MUSIC_LOOPS})
    said = _say(callback.query.get("say", ""), callback.query.get("language", ""))
    return document(*said, music, Verb("Redirect", callback.url, {"method": "POST"}))


def fallback_document(dialect: Dialect, account: ProviderAccount, language: str) -> str:
    """Returns the document to store at the vendor, for calls that come while Tocsin does not answer: a voicemail."""
    greeting = spoken_phrase(
        "phone call",
        "No one can be reached at this number right now. Please leave a message with your name and your number.",
        language,
    )
    nothing = spoken_phrase("phone call", "No message was recorded. Please call again later.", language)
    voice = voice_of(language)
    ended = {"action": callback_url(account, "call-ended", language=language), "method": "POST"}
    record = _record(dialect, account, _FALLBACK_RECORD, ended)
    return document(*_say(greeting, voice), record, *_say(nothing, voice))


# ---------- what a vendor reports about a call to a hotline


#: What vendors send as the number of a caller who withholds it: words on a keypad, such as ANONYMOUS.
_WITHHELD = frozenset({"+266696687", "+7378742833", "+2562533", "+8656696", "+86282452253"})
#: SIP response codes of somebody who declines a call (RFC 3261, 21.6.2; RFC 8197; RFC 8688).
_DECLINED = frozenset({"603", "607", "608"})
_EVENTS = {
    "call": HotlineEventKind.CAME,
    "call-answer": HotlineEventKind.ANSWERED,
    "call-machine": HotlineEventKind.ANSWERED,
    "call-key": HotlineEventKind.KEY,
    "call-ended": HotlineEventKind.ENDED,
    "call-transcript": HotlineEventKind.TRANSCRIBED,
}
#: What is answered with a document.
_ASKING = frozenset({"call", "call-answer", "call-key", "call-ended"})
_LIVE = {
    "queued": LiveState.RINGING,
    "initiated": LiveState.RINGING,
    "ringing": LiveState.RINGING,
    "in-progress": LiveState.CONNECTED,
}
_OVER = frozenset({"completed", "busy", "no-answer", "canceled", "failed"})
_UNKNOWN_ENDPOINT = Text("{vendor} calls no such URL.")


def is_hotline(endpoint: str) -> bool:
    """Returns whether a callback is about a call to a hotline."""
    return endpoint == "call" or endpoint.startswith("call-")


def handle_hotline(
    dialect: Dialect, account: ProviderAccount, callback: Callback, fields: Mapping[str, str], receiver: EventReceiver
) -> CallbackResponse:
    """Handles a vendor's request about a call to a hotline: one for the next document, or a report."""
    if callback.endpoint == "call-wait":
        return CallbackResponse(200, _wait_document(account, callback), XML)
    if callback.endpoint == "call-fallback":
        return CallbackResponse(200, fallback_document(dialect, account, callback.query.get("language", "")), XML)
    event = hotline_event(dialect.vendor, callback.endpoint, callback.query, fields)
    steps = receiver.handle_hotline(event) if event is not None else ()
    if callback.endpoint not in _ASKING and not steps:
        return CallbackResponse(204)
    leg = callback.query.get("leg", "")
    steps = steps or _last_steps(fields, leg, callback.query.get("language", ""))
    return CallbackResponse(200, hotline_document(dialect, account, steps, leg), XML)


def hotline_event(
    vendor: str, endpoint: str, query: Mapping[str, str], fields: Mapping[str, str]
) -> HotlineEvent | None:
    """Returns what a vendor reports about a call; None for what says nothing. Raises Rejected for an unknown URL."""
    caller = _caller(fields.get("From", ""))
    event = HotlineEvent(
        _EVENTS.get(endpoint, HotlineEventKind.HUNG_UP),
        fields.get("CallSid", ""),
        query.get("leg", ""),
        fields.get("To", ""),
        caller,
        digits=fields.get("Digits", "") if endpoint == "call-key" else "",
        step=query.get("step", ""),
        recording_url=fields.get("RecordingUrl", ""),
        recording_id=fields.get("RecordingSid", ""),
        recording_seconds=_seconds(fields.get("RecordingDuration", "")),
        transcription=fields.get("TranscriptionText", ""),
    )
    match endpoint:
        case "call" if hotline := query.get("hotline"):
            return replace(event, number=hotline, caller=event.number, is_test=True)
        case "call":
            return replace(event, caller_name=fields.get("CallerName", ""), caller_token=fields.get("CallToken", ""))
        case "call-answer" | "call-machine" if re.match(r"machine|fax", fields.get("AnsweredBy", "")):
            return replace(event, kind=HotlineEventKind.MACHINE)
        case "call-machine":
            return None
        case "call-status":
            return _status_event(vendor, event, fields)
        case "call-conference":
            # Of the person, their own call reports the end.
            has_left = fields.get("StatusCallbackEvent", "").endswith("leave")
            return replace(event, kind=HotlineEventKind.LEFT) if has_left else None
        case "call-recording":
            is_ready = fields.get("RecordingStatus", "completed") == "completed" and bool(event.recording_url)
            return replace(event, kind=HotlineEventKind.RECORDED if is_ready else HotlineEventKind.NOT_RECORDED)
        case _ if endpoint in _EVENTS:
            # The last request of a call tells of the hang-up that has ended the step.
            return replace(event, kind=HotlineEventKind.HUNG_UP) if fields.get("CallStatus") == "completed" else event
        case _:
            raise Rejected("not_found", _UNKNOWN_ENDPOINT(vendor=vendor))


def _status_event(vendor: str, event: HotlineEvent, fields: Mapping[str, str]) -> HotlineEvent | None:
    status = fields.get("CallStatus", "")
    if status in _LIVE:
        is_ringing = bool(event.leg) and _LIVE[status] is LiveState.RINGING
        return replace(event, kind=HotlineEventKind.RINGING) if is_ringing else None
    if not event.leg or status == "completed":
        return event if status in _OVER else None
    told = receipt(vendor, event.leg, fields)
    if (fields.get("SipResponseCode") or fields.get("SipHangupCause", "")) in _DECLINED:
        return replace(event, kind=HotlineEventKind.DECLINED)
    match status:
        case "busy":
            return replace(event, kind=HotlineEventKind.BUSY, reason=told.reason)
        case "failed" if told.state is ReceiptState.FAILED:
            return replace(event, kind=HotlineEventKind.FAILED, reason=told.reason)
        case "no-answer" | "canceled" | "failed":
            return replace(event, kind=HotlineEventKind.NO_ANSWER, reason=told.reason)
        case _:
            return None


def _caller(text: str) -> str:
    number = text.strip()
    return number if is_phone_number(number) and number not in _WITHHELD else ""


def _seconds(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 8 else 0


def _last_steps(fields: Mapping[str, str], leg: str, language: str) -> tuple[CallStep, ...]:
    """What a call says that nobody continues: its number has no route, or the fallback document has recorded it."""
    if leg:
        return (HangUp(),)
    if fields.get("RecordingUrl"):
        text = spoken_phrase("phone call", "Thank you. Your message was recorded.", language)
    else:
        text = spoken_phrase("phone call", "This number is not in use. Goodbye.", language)
    return (Say(text, voice_of(language)), HangUp())


# ---------- sending


#: 30 minutes of speech are 29 MB as WAV, and 7 MB as MP3.
MAX_RECORDING_BYTES = 32 * 1024 * 1024
#: In seconds: how long fetching one may take.
RECORDING_DEADLINE = 60.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
RECORDING_ELSEWHERE = ReasonType("provider.recording_elsewhere", "The recording is at {host}, which is not {vendor}'s.")
RECORDING_TOO_LARGE = ReasonType("provider.recording_too_large", "The recording is larger than {size} MB.")
NO_RECORDING = ReasonType("provider.no_recording", "{vendor} did not send the recording ({answer}).")


class HotlineSender(HttpSender):
    """A sender whose vendor carries calls to a hotline in TwiML. Implements `interfaces.CallCarrier`."""

    dialect: Dialect

    @abstractmethod
    def _start_call(self, fields: dict[str, Any]) -> str:
        """Starts a call, and returns its id. Raises as `send` does."""

    @abstractmethod
    def _request_of_account(
        self, method: str, resource: str, fields: Mapping[str, str] | None = None
    ) -> EgressResponse | None:
        """Requests a resource such as "Calls/CA1". Returns None if it is gone, or the call is over. Raises as `send`
        does.
        """

    @abstractmethod
    def _media_headers(self) -> dict[str, str]:
        """Returns the headers for a recording at the API's own host."""

    def ring(
        self,
        number: str,
        leg: str,
        *,
        caller_id: str = "",
        caller_token: str = "",
        seconds: int = RING_SECONDS,
        detects_machine: bool = True,
    ) -> str:
        own_number = sender(str(self._account.settings.get("from_number") or ""))
        fields = self._call_fields(number, own_number, callback_url(self._account, "call-answer", leg=leg), leg)
        fields["Timeout"] = str(seconds)
        if detects_machine:
            # Beside the document: the person hears at once what the call is about.
            found = callback_url(self._account, "call-machine", leg=leg)
            fields |= {"MachineDetection": "Enable", "AsyncAmd": "true", "AsyncAmdStatusCallback": found}
        if caller_id in ("", own_number):
            return self._start_call(fields)
        shown = {"From": caller_id, **({"CallToken": caller_token} if caller_token else {})}
        try:
            return self._start_call({**fields, **shown})
        except Permanent:
            # Better the provider's own number on the display than a phone that does not ring.
            return self._start_call(fields)

    def call_in(self, number: str, hotline: str) -> str:
        own_number = sender(str(self._account.settings.get("from_number") or ""))
        url = callback_url(self._account, "call", hotline=hotline)
        return self._start_call(self._call_fields(number, own_number, url, ""))

    def _call_fields(self, number: str, own_number: str, url: str, leg: str) -> dict[str, Any]:
        return {
            "To": number,
            "From": own_number,
            "Url": url,
            "StatusCallback": callback_url(self._account, "call-status", leg=leg),
            "StatusCallbackEvent": STATUS_EVENTS,
        }

    def move(self, external_id: str, steps: Sequence[CallStep], leg: str = "") -> bool:
        fields = {self.dialect.inline: hotline_document(self.dialect, self._account, steps, leg)}
        return self._request_of_account("POST", _call_resource(external_id), fields) is not None

    def hang_up(self, external_id: str) -> None:
        self._request_of_account("POST", _call_resource(external_id), {"Status": "completed"})

    def live_state(self, external_id: str) -> LiveState:
        response = self._request_of_account("GET", _call_resource(external_id))
        if response is None:
            return LiveState.ENDED
        return _LIVE.get(str(vendor_http.body(response).get("status")), LiveState.ENDED)

    def fetch_recording(self, url: str, recording_id: str = "") -> tuple[bytes, str]:
        response = self._fetch_media(f"{url}{self.dialect.media_suffix}")
        if response.status in (403, 404, 410) and recording_id:
            # The URL has expired: the recording itself has another.
            found = self._request_of_account("GET", _recording_resource(recording_id))
            new_url = vendor_http.text(vendor_http.body(found).get("media_url")) if found else ""
            response = self._fetch_media(new_url) if new_url else response
        content_type = _audio_type(response.body)
        if response.status != 200 or not content_type:
            if response.status == 404 or response.status in vendor_http.RETRYABLE_STATUSES or response.status >= 500:
                # It may not be ready yet.
                raise Temporary(NO_RECORDING(vendor=self.dialect.vendor, answer=str(response.status)))
            raise Permanent(NO_RECORDING(vendor=self.dialect.vendor, answer=str(response.status)))
        if len(response.body) > MAX_RECORDING_BYTES:
            raise Permanent(RECORDING_TOO_LARGE(size=str(MAX_RECORDING_BYTES // 1024**2)))
        return response.body, content_type

    def delete_recording(self, recording_id: str) -> None:
        self._request_of_account("DELETE", _recording_resource(recording_id))

    def _fetch_media(self, url: str, *, redirects: int = 1) -> EgressResponse:
        """Requests a recording from the vendor's hosts only; the credentials go to none but the API's."""
        parts, api = urlsplit(url), urlsplit(self._base)
        is_api = parts.netloc == api.netloc and parts.scheme == api.scheme
        host = parts.hostname or ""
        is_vendors = any(host == known or host.endswith(f".{known}") for known in self.dialect.media_hosts)
        if not is_api and not (is_vendors and parts.scheme == "https"):
            raise Permanent(RECORDING_ELSEWHERE(host=host[:100], vendor=self.dialect.vendor))
        response = self._client.request(
            "GET",
            url,
            headers=self._media_headers() if is_api else {},
            deadline=RECORDING_DEADLINE,
            max_bytes=MAX_RECORDING_BYTES + 1,
        )
        if response.status in _REDIRECTS and redirects:
            return self._fetch_media(urljoin(url, response.headers.get("location", "")), redirects=redirects - 1)
        return response


def _call_resource(external_id: str) -> str:
    return f"Calls/{quote(external_id, safe='')}"


def _recording_resource(recording_id: str) -> str:
    return f"Recordings/{quote(recording_id, safe='')}.json"


def _audio_type(content: bytes) -> str:
    """Returns the type of a recording by its first bytes; empty if it is none. Storage serves any as a binary."""
    if content[:4] == b"RIFF" and content[8:12] == b"WAVE":
        return "audio/wav"
    return "audio/mpeg" if content[:3] == b"ID3" or (content[:1] == b"\xff" and content[1:2] >= b"\xe0") else ""


# ---------- what an administrator sets up at the vendor's


def hotline_endpoints(call_help: str, status_help: str) -> tuple[WebhookEndpoint, ...]:
    """Returns the URLs of a hotline that an administrator enters at the vendor's, with where. All others are in the
    documents.
    """
    return (
        WebhookEndpoint("call", translatable("Hotline: incoming call URL"), call_help),
        WebhookEndpoint("call-status", translatable("Hotline: call status URL"), status_help),
    )


class HotlineKind(WebhookProvider):
    """A kind whose vendor carries calls to a hotline in TwiML."""

    carries_calls = True
    dialect: Dialect
    package_name = "hotline-voicemail.xml"
    package_type = "application/xml"
    package_label = translatable("Hotline: voicemail without Tocsin")

    def build_package(self, account: ProviderAccount, public_url: str) -> bytes:
        return (
            fallback_document(self.dialect, account, get_language() or "").encode()
            if account.callback_base_url
            else b""
        )
