"""The telephone side of a vendor that speaks TwiML: incoming and outgoing calls, each carrying out its documents.

After https://www.twilio.com/docs/voice/twiml and https://developers.telnyx.com/docs/voice/programmable-voice/texml-verbs.
A test says what people do. What the vendor does by itself after a request of its API (it calls the status URL, moves a
call to a new document) waits in `pending`, as a vendor does it after its answer: each action of the test ends with it.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

#: Half a second of silence as MP3 frames would begin: enough to be known as one.
MP3 = b"\xff\xfb\x90\x00" + bytes(400)
ALLOWED_WHILE_WAITING = {"Say", "Play", "Pause", "Redirect"}


class Vendor(Protocol):
    """What the exchange needs of a vendor's double."""

    def post_form(self, url: str, fields: Mapping[str, str]) -> tuple[int, str]: ...

    def new_sid(self) -> str: ...

    def caller_fields(self, sid: str) -> dict[str, str]:
        """Returns what the vendor says besides of an incoming call."""
        ...

    def recording_fields(self, sid: str) -> dict[str, str]:
        """Returns how the vendor names a finished recording: its URL and id."""
        ...


@dataclass
class Line:
    """One call at the vendor: the caller's, or one to a person."""

    exchange: Exchange
    sid: str
    number: str
    caller: str
    is_inbound: bool
    status: str = "queued"
    status_callback: str = ""
    #: Everything that was said on it.
    said: list[str] = field(default_factory=list)
    played: list[str] = field(default_factory=list)
    #: What it does now: "gather", "record", "conference", or nothing.
    doing: str = ""
    conference: str = ""
    #: The rest of its document, and where the step that it is in reports its end.
    rest: list[ET.Element] = field(default_factory=list)
    action: str = ""
    verb: ET.Element | None = None
    start: dict[str, str] = field(default_factory=dict)

    @property
    def is_live(self) -> bool:
        return self.status in ("queued", "ringing", "in-progress")

    def heard(self) -> str:
        """Returns what was said since the last question."""
        text, self.said = " ".join(self.said), []
        return text

    # What people do.

    def press(self, digits: str) -> None:
        if self.doing == "gather":
            self._go_on(self.action, {"Digits": digits})
        self.exchange.settle()

    def presses_nothing(self) -> None:
        assert self.doing == "gather", self.doing
        self.doing = ""
        self._run()
        self.exchange.settle()

    def speak(self, seconds: int, *, hangs_up: bool = False) -> None:
        """Leaves a message, and ends it with the # key or by hanging up."""
        assert self.doing == "record", self.doing
        verb = self.verb
        assert verb is not None
        if seconds == 0 and not hangs_up:
            # Nothing was said: no recording, and the document goes on.
            self.doing = ""
            self._run()
            self.exchange.settle()
            return
        recorded = {**self.exchange.vendor.recording_fields(self.sid), "RecordingDuration": str(seconds)}
        if hangs_up:
            self.status = "completed"
        self._go_on(self.action, {**recorded, "Digits": "hangup" if hangs_up else "#"})
        self.exchange.report_recording(self, verb, recorded)
        if hangs_up:
            self.exchange.report_status(self)
        self.exchange.settle()

    def hang_up(self) -> None:
        if self.doing == "record":
            self.speak(0, hangs_up=True)
            return
        self.end("completed")
        self.exchange.settle()

    def pick_up(self) -> None:
        """Somebody answers, or a machine: of that, only `is_machine` tells the vendor."""
        assert self.status in ("queued", "ringing"), self.status
        self.status = "in-progress"
        self.exchange.report_status(self)
        self.exchange.ask(self, self.start["Url"])
        self.exchange.settle()

    def is_machine(self) -> None:
        self.exchange.report_machine(self, "machine_start")
        self.exchange.settle()

    def rings(self) -> None:
        self.status = "ringing"
        self.exchange.report_status(self)
        self.exchange.settle()

    def fails(self, status: str, **more: str) -> None:
        """The call ends without an answer: busy, no-answer, failed or canceled."""
        self.status = status
        self.exchange.report_status(self, **more)
        self.exchange.settle()

    # What the vendor does.

    def end(self, status: str) -> None:
        if not self.is_live:
            return
        self.status = status
        self._leave()
        self.doing, self.rest = "", []
        self.exchange.report_status(self)

    def run(self, document: str) -> None:
        """Carries out a document in place of what the call does."""
        self._leave()
        self.doing = ""
        self.rest = list(ET.fromstring(document))
        self._run()

    def _leave(self) -> None:
        if self.doing == "conference":
            self.exchange.leave(self)

    def _go_on(self, url: str, more: Mapping[str, str]) -> None:
        self.doing = ""
        self.exchange.ask(self, url, more)

    def conference_ended(self) -> None:
        self._go_on(self.action, {"DialCallStatus": "answered"})

    def _run(self) -> None:
        while self.is_live:
            if not self.rest:
                self.end("completed")
                return
            verb = self.rest.pop(0)
            match verb.tag:
                case "Say":
                    self.said.append(verb.text or "")
                case "Play":
                    self.played.append(verb.text or "")
                case "Pause":
                    pass
                case "Redirect":
                    self._go_on(verb.text or "", {})
                    return
                case "Hangup":
                    self.end("completed")
                case "Gather":
                    self.said += [said.text or "" for said in verb.iter("Say")]
                    self.doing, self.action = "gather", verb.get("action", "")
                    return
                case "Record":
                    self.doing, self.action, self.verb = "record", verb.get("action", ""), verb
                    return
                case "Dial":
                    self.action, self.verb = verb.get("action", ""), verb[0]
                    self.exchange.join(self, verb[0])
                    return
                case unknown:
                    raise AssertionError(f"the vendor knows no <{unknown}>")


@dataclass
class Exchange:
    vendor: Vendor
    lines: list[Line] = field(default_factory=list)
    conferences: dict[str, list[Line]] = field(default_factory=dict)
    #: The conferences that have begun, and where each reports.
    begun: set[str] = field(default_factory=set)
    reports: dict[str, str] = field(default_factory=dict)
    pending: list[Callable[[], object]] = field(default_factory=list)
    #: Every request that was posted, so that one can be repeated.
    posted: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    #: Whether each report is sent twice, as after a lost answer.
    repeats_reports: bool = False

    # What a test does.

    def call_in(self, url: str, caller: str, number: str, **more: str) -> Line:
        """Somebody calls a number, whose URL this is."""
        line = Line(self, self.vendor.new_sid(), number, caller, is_inbound=True, status="ringing")
        line.status_callback = f"{url}-status"
        self.lines.append(line)
        self.ask(line, url, {**self.vendor.caller_fields(line.sid), **more})
        self.settle()
        return line

    def settle(self) -> None:
        """Does what the vendor does by itself by now."""
        while self.pending:
            self.pending.pop(0)()

    def ringing(self, number: str = "") -> list[Line]:
        """Returns the calls to people that ring."""
        lines = [line for line in self.lines if not line.is_inbound and line.status in ("queued", "ringing")]
        return [line for line in lines if number in ("", line.number)]

    def talks(self, *lines: Line) -> bool:
        """Returns whether these, and nobody else, hear each other."""
        name = lines[0].conference
        return name in self.begun and self.conferences.get(name, []) == list(lines)

    def repeat(self, number: int) -> tuple[int, str]:
        """Posts one of the earlier requests again."""
        return self.vendor.post_form(*self.posted[number])

    # What the vendor's API does.

    def start(self, fields: Mapping[str, Any]) -> Line:
        line = Line(self, self.vendor.new_sid(), fields["To"], fields["From"], is_inbound=False)
        line.start, line.status_callback = dict(fields), fields.get("StatusCallback", "")
        self.lines.append(line)
        self.pending.append(lambda: self.report_status(line, CallStatus="initiated"))
        return line

    def find(self, sid: str) -> Line | None:
        return next((line for line in self.lines if line.sid == sid), None)

    def update(self, line: Line, document: str, status: str) -> None:
        if status == "completed":
            self.pending.append(lambda: line.end("completed" if line.status == "in-progress" else "canceled"))
        else:
            self.pending.append(lambda: line.run(document))

    # What the vendor calls.

    def ask(self, line: Line, url: str, more: Mapping[str, str] | None = None) -> None:
        """Asks for the next document of a call, and carries it out."""
        status, answer = self.post(url, {**self._fields(line), **(more or {})})
        assert status == 200, (status, url, answer)
        if line.is_live:
            line.status = "in-progress"
            line.rest = list(ET.fromstring(answer))
            line._run()

    def post(self, url: str, fields: Mapping[str, str]) -> tuple[int, str]:
        self.posted.append((url, dict(fields)))
        return self.vendor.post_form(url, fields)

    def report(self, url: str, fields: Mapping[str, str]) -> None:
        for _ in range(1 + self.repeats_reports):
            status, answer = self.post(url, fields)
            assert status in (200, 204), (status, url, answer)

    def report_status(self, line: Line, **more: str) -> None:
        if line.status_callback:
            self.report(line.status_callback, {**self._fields(line), "CallDuration": "3", **more})

    def report_machine(self, line: Line, by: str) -> None:
        fields = {"CallSid": line.sid, "AnsweredBy": by, "MachineDetectionDuration": "2500"}
        self.report(line.start["AsyncAmdStatusCallback"], fields)

    def report_recording(self, line: Line, verb: ET.Element, recorded: Mapping[str, str]) -> None:
        is_empty = recorded.get("RecordingDuration") == "0"
        fields = {"CallSid": line.sid, "RecordingStatus": "absent" if is_empty else "completed", **recorded}
        self.report(verb.attrib["recordingStatusCallback"], fields)
        if not is_empty and (heard := verb.get("transcribeCallback") or verb.get("transcriptionCallback")):
            self.report(heard, {"CallSid": line.sid, "TranscriptionText": "The VPN is down.", **recorded})

    def _fields(self, line: Line) -> dict[str, str]:
        direction = "inbound" if line.is_inbound else "outbound-api"
        return {
            "CallSid": line.sid, "From": line.caller, "To": line.number, "Direction": direction,
            "CallStatus": line.status,
        }  # fmt: skip

    # Conferences.

    def join(self, line: Line, noun: ET.Element) -> None:
        name = noun.text or ""
        line.doing, line.conference = "conference", name
        self.conferences.setdefault(name, []).append(line)
        # The first one's attribute counts.
        self.reports.setdefault(name, noun.get("statusCallback", ""))
        self._report_conference(name, line, "participant-join")
        if noun.get("startConferenceOnEnter", "true") == "true":
            self.begun.add(name)
        elif name not in self.begun:
            self.play_wait(line)

    def play_wait(self, line: Line) -> None:
        """The caller hears one round of the wait document."""
        assert line.verb is not None
        status, answer = self.post(line.verb.attrib["waitUrl"], self._fields(line))
        assert status == 200, (status, answer)
        verbs = list(ET.fromstring(answer))
        assert {verb.tag for verb in verbs} <= ALLOWED_WHILE_WAITING, answer
        line.said += [verb.text or "" for verb in verbs if verb.tag == "Say"]
        line.played += [verb.text or "" for verb in verbs if verb.tag == "Play"]
        assert verbs[-1].tag == "Redirect"
        assert verbs[-1].text == line.verb.attrib["waitUrl"]

    def leave(self, line: Line) -> None:
        name, verb = line.conference, line.verb
        members = self.conferences.get(name, [])
        if line not in members:
            return
        members.remove(line)
        line.conference = ""
        self._report_conference(name, line, "participant-leave")
        if verb is not None and verb.get("endConferenceOnExit") == "true":
            left, self.conferences[name] = list(members), []
            self.begun.discard(name)
            for other in left:
                other.conference = ""
                self._report_conference(name, other, "participant-leave")
                self.pending.append(other.conference_ended)

    def _report_conference(self, name: str, line: Line, event: str) -> None:
        if url := self.reports.get(name):
            self.report(url, {"CallSid": line.sid, "FriendlyName": name, "StatusCallbackEvent": event})
