"""Turns a decoded element into a normalized event: its mapped values and the action it requests. Pure.

normalizer = compile_normalizer(kind, definition)          # once per configuration version
for element in decode(body, content_type, lenient=kind.lenient).elements:
    event = normalizer.normalize(element)                 # NormalizedEvent, or Rejected (returned, not raised)
    …                                              # only if an alert would open:
    event.check_filters(); event.choose_route(in_hours)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from tocsin.catalogue.kinds import NEW_TICKETS_OPEN, Category, IntegrationKind
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, Term, sentence
from tocsin.core.validation.inputs import compile_path, rejected_at
from tocsin.inbound.conditions import CompiledCondition, RuleMatch, compile_condition
from tocsin.inbound.config.rules import KEYS as NOISE_KEYS
from tocsin.inbound.config.rules import (
    NO_STATUS_BUT_EVENT,
    STATUS,
    CompiledRules,
    EventAction,
    NoiseSettings,
    Route,
    RouteChoice,
    RouteReference,
    choose,
    compile_noise_settings,
    compile_routes,
    compile_rules,
)
from tocsin.inbound.fields import MappedFields, clean_line, one_line, priority_of, text_of
from tocsin.inbound.mapping import evidence, likely_texts
from tocsin.inbound.mapping.evidence_table import ALIASES, NEW_WORDS, StatusMeaning, fold
from tocsin.inbound.mapping.mapping import Alternative, CompiledMapping, compile_mapping
from tocsin.inbound.mapping.message_objects import (
    KnownNames,
    MessageObjects,
    TicketForm,
    collect,
    hoisted,
    is_of_delivery,
    spelled,
    unwrapped,
)
from tocsin.inbound.mapping.status_words import (
    event_in_title,
    is_clear,
    is_closed_status,
    is_completion,
    is_daily_event,
    is_new_status,
    is_new_ticket,
    is_of_known_ticket,
    is_open_status,
    may_be_new,
    meaning_of,
    meaning_of_ticket_event,
    split_id,
    status_in_event,
)
from tocsin.inbound.parsing.decode import Element

_NOTHING: Final = MappedFields({}, {}, {})
_MAX_SOURCES_CHARS: Final = 200
_ENDING: Final = (EventAction.CLOSE, EventAction.CANCEL)
_ACTIONS: Final[Mapping[StatusMeaning | None, EventAction]] = {
    StatusMeaning.OPEN: EventAction.OPEN,
    StatusMeaning.CLOSE: EventAction.CLOSE,
}


@dataclass(frozen=True, slots=True)
class IntegrationDefinition:
    """The definition of one integration; the kind's defaults fill the rest.

    `mapping` and `rules` override the kind's field by field and rule by rule (None removes one); `filters`, `routes`
    and `dedup_key` (a template) replace the kind's.
    """

    mapping: Mapping[str, object] = field(default_factory=dict)
    rules: Mapping[str, object] = field(default_factory=dict)
    filters: object = None
    routes: object = None
    dedup_key: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    #: Noise reduction; `inbound.config.rules` describes the format of each.
    parent: object = None
    grouping: object = None
    flapping: object = None
    delay: object = None
    flood: object = None

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any], settings: Mapping[str, object]) -> IntegrationDefinition:
        return cls(
            mapping=stored.get("mapping") or {},
            rules=stored.get("rules") or {},
            filters=stored.get("filters"),
            routes=stored.get("routes"),
            dedup_key=stored.get("dedup_key"),
            settings=settings,
            **{name: stored.get(name) for name in NOISE_KEYS},
        )


class NormalizedEvent(msgspec.Struct, frozen=True):
    """The normalized content of one message.

    `source_id` is None if there is none and the kind does not require one; `dedup_key` is the rendered key template of
    the integration, None without a template.
    """

    mapped: MappedFields
    action: EventAction
    rule_match: RuleMatch  # the rule and values that decided the intent
    source_id: str | None
    source_name: str
    delivery_id: str | None
    source_time: datetime | None
    dedup_key: str | None
    notes: tuple[Reason, ...]
    payload: object
    _normalizer: Normalizer
    #: Whether the message says what it wants; one that does not is counted as not understood. It opens, unless it is of
    #: a ticket.
    is_understood: bool = True
    #: Whether it opens only an alert of a ticket that never had one: it may say nothing but that the ticket exists.
    opens_first_only: bool = False
    #: Whether it ends something, and its id may be that of this message alone.
    is_ending_unknown: bool = False

    def __repr__(self) -> str:
        return f"NormalizedEvent({self.action}: {self.rule_match.reason}; {self.mapped})"

    def check_filters(self) -> RuleMatch:
        """Returns whether the kind's vetoes and the integration's filters let an alert open."""
        return self._normalizer.rules.may_open(self.payload, self.mapped)

    def choose_route(self, in_hours: Callable[[RouteReference], bool]) -> RouteChoice:
        """Returns the route for a new alert. `in_hours(name)` returns whether support hours are open now."""
        return choose(self._normalizer.routes, self.payload, self.mapped, in_hours)


@dataclass(frozen=True, slots=True)
class Normalizer:
    """The compiled definition of one integration."""

    kind: IntegrationKind
    mapping: CompiledMapping
    rules: CompiledRules
    routes: tuple[Route, ...]
    id_required: bool
    has_key_template: bool
    #: None without noise reduction: alerts open at once.
    noise_settings: NoiseSettings | None = None
    #: The fields that aliases may fill.
    aliased_fields: frozenset[str] = frozenset()
    #: Of a kind whose messages come from any tool: the fields whose own value may be less likely than another.
    guesses: frozenset[str] = frozenset()
    #: Of such a kind: the names of fields that a message with a clear status is understood by.
    plain_names: frozenset[str] = frozenset()
    #: The messages that aliases never complete; None: none.
    unaliased: CompiledCondition | None = None
    #: The form of messages that the mapping reads; None: as they come.
    ticket_form: TicketForm | None = None
    #: The names that the mapping and the rules look for: a message may spell them otherwise.
    known_names: KnownNames = field(default_factory=lambda: KnownNames({}))
    #: Whether the integration's rules are those of its kind, maybe extended; other rules of a user decide alone.
    has_kind_rules: bool = True
    #: The statuses that the kind's rules name, in lower case: what they do not decide is not decided by words.
    rule_values: frozenset[str] = frozenset()
    #: The statuses that the integration's own rules name, in lower case: these decide alone what they do.
    own_rule_values: frozenset[str] = frozenset()
    #: The statuses that the settings name, in lower case.
    known_statuses: frozenset[str] = frozenset()
    new_tickets_open: bool = True
    #: Whether the kind's rules open by the event of a message.
    opens_by_event: bool = False
    priorities: Mapping[str, str] = field(default_factory=dict)

    def normalize(self, element: Element) -> NormalizedEvent | Rejected:
        """Returns the event of one element, or why there is none (unreadable, or a required id is missing)."""
        if element.problem is not None:
            return element.problem
        payload = self.form_of(element.payload)
        mapped, is_own_status, objects = self._map(payload)
        values = mapped.values
        source_id = values.get("source_id")
        dedup_key = values.get("dedup_key") if self.has_key_template else None
        action, rule_match, is_understood = self._classify(payload, mapped, is_own=is_own_status)
        is_ignored = action is EventAction.NONE and rule_match.is_decisive
        notes = element.notes + mapped.notes if element.notes else mapped.notes
        if self.id_required and source_id is None and dedup_key is None and not is_ignored:
            if not isinstance(payload, Mapping) or not self._says_what_it_is_about(payload, mapped):
                return self._without_id()
            notes += (self._without_id().reason,)
            objects = objects or collect(payload)
            mapped = evidence.with_likely_id(mapped, objects, self.aliased_fields)
            source_id, is_understood = mapped.values.get("source_id"), False
        if self._takes_aliases(payload):
            mapped = self._describe(action, mapped, element.payload, objects)
        if action is EventAction.OPEN and self.kind.is_own_note(payload):
            action = EventAction.UPDATE
        return NormalizedEvent(
            mapped,
            action,
            rule_match,
            source_id,  # type: ignore[arg-type]
            values.get("source_name") or "",  # type: ignore[arg-type]
            values.get("delivery_id"),  # type: ignore[arg-type]
            values.get("source_time"),  # type: ignore[arg-type]
            dedup_key,  # type: ignore[arg-type]
            notes,
            payload,
            self,
            is_understood,
            opens_first_only=not is_understood and action is EventAction.OPEN and self.kind.assigns_source_agent,
            is_ending_unknown=action is EventAction.CLOSE
            and self._may_be_of_message(source_id, dedup_key, payload, objects),
        )

    def _says_what_it_is_about(self, payload: Mapping[str, object], mapped: MappedFields) -> bool:
        """Returns whether a message that lacks the id of its kind is about a problem even so, by its texts."""
        if self.kind.assigns_source_agent or not self._takes_aliases(payload):
            return False
        subject = mapped.values.get("subject")
        return likely_texts.says(subject) if subject is not None else evidence.has_subject(collect(payload))

    def form_of(self, payload: object) -> object:
        """Returns a payload in the form that the kind's mapping reads."""
        if not isinstance(payload, Mapping):
            return payload
        if self.ticket_form is not None:
            return spelled(unwrapped(payload, self.ticket_form), self.known_names)
        is_ticket = self.kind.assigns_source_agent
        other = hoisted(payload) if is_ticket else spelled(payload, self.known_names)
        if other is payload:
            return payload
        # What wraps a ticket comes off, and names are spelled as the kind does in its own messages, if its paths find
        # an id then, and not before.
        found = self.mapping.apply(payload).values
        is_other = "source_id" not in found and (is_ticket or "source_status" in found)
        return other if is_other and "source_id" in self.mapping.apply(other).values else payload

    def _may_be_of_message(
        self, source_id: object, dedup_key: object, payload: object, objects: MessageObjects | None
    ) -> bool:
        """Returns whether an id may be that of one message alone, so that nothing else has it."""
        is_guessed = "source_id" in self.guesses or (self.aliased_fields and objects is not None)
        if not is_guessed or dedup_key is not None or self.kind.assigns_source_agent:
            return False
        if objects is None:
            # A plain message: its `id` may be.
            return isinstance(payload, Mapping) and source_id in [text_of(payload.get(name)) for name in ("id", "key")]
        return not evidence.is_certain_id(objects, text_of(source_id))

    def map_fields(self, payload: object) -> MappedFields:
        """Maps a payload, by the aliases that tools share where the kind's own paths find no id or no status."""
        return self._map(self.form_of(payload))[0]

    def _map(self, payload: object) -> tuple[MappedFields, bool, MessageObjects | None]:
        """Returns the mapped fields, whether the kind's own paths found the status, and the message's objects if they
        were looked at."""
        mapped = self.mapping.apply(payload)
        has_id, has_status = "source_id" in mapped.values, "source_status" in mapped.values
        if not isinstance(payload, Mapping) or not self._takes_aliases(payload):
            return mapped, has_status, None
        if self.guesses:
            if has_id and has_status and self._is_plain(mapped, payload):
                return mapped, True, None
            return self._map_likely(mapped, payload)
        if has_id and has_status:
            return mapped, True, None
        fields = self.aliased_fields
        if not has_id and self._refuses_id(payload):
            fields -= {"source_id"}
        is_ticket = self.kind.assigns_source_agent
        if is_ticket and has_id:
            # A message about a known ticket that leaves something out says nothing about it.
            fields &= {"source_status", "event"}
        objects = collect(payload)
        mapped = evidence.complete(mapped, objects, fields, self._priority_of, is_ticket=is_ticket)
        if is_ticket:
            return mapped, has_status, objects
        if not has_id:
            mapped = evidence.with_id_of_runs(mapped, objects, fields)
        # A message of the tool itself that lacks its id is refused; one in another form has other ids.
        if not self.id_required or not has_status:
            mapped = evidence.with_likely_id(mapped, objects, fields)
        return mapped, has_status, objects

    def _is_plain(self, mapped: MappedFields, payload: Mapping[str, object]) -> bool:
        """Returns whether a message of any tool has only the kind's own names, and a status that says what it does."""
        if not payload.keys() <= self.plain_names:
            return False
        status, source_id = mapped.text("source_status") or "", mapped.values.get("source_id")
        # Without a priority of its own it gets that of its status, or of an object in it.
        if "priority" not in mapped.values and (self._priority_of(status) is not None or _holds_objects(payload)):
            return False
        is_certain = is_clear(status) and not is_completion(status) and not is_of_delivery(source_id)
        return is_certain and not (mapped.text("severity") or "").isdigit()

    def _map_likely(
        self, own: MappedFields, payload: Mapping[str, object]
    ) -> tuple[MappedFields, bool, MessageObjects]:
        """Returns the fields of a message from any tool, whose own names may be less likely than others: its status may
        be a number, or that of a run and not of its result, and its id that of one message or one run."""
        objects, guesses = collect(payload), self.guesses
        values = dict(own.values)
        own_id = own.text("source_id") if "source_id" in guesses else None
        if own_id is not None and (
            own_id in map(text_of, objects.delivery_ids)
            or is_of_delivery(own_id)
            or evidence.take_event_from_id(objects, own_id)
        ):
            del values["source_id"]
        elif own_id is not None:
            values["source_id"] = split_id(own_id, own.text("source_status") or "")[0]
        status = (own.text("source_status") or "") if "source_status" in guesses else ""
        is_own, is_low = "source_status" in own.values, False
        if "source_status" in guesses and (not status or status.casefold() not in self.own_rule_values):
            found, is_low = self._likely_status(status, objects)
            if found.casefold() in evidence.UPDATES and "source_id" not in values:
                # "update" of nothing that has an id is new.
                found = ""
            is_own = found == status != ""
            values.pop("source_status", None)
            values |= {"source_status": found} if found else {}
        fields = self.aliased_fields - ({"source_status"} & guesses)
        mapped = evidence.complete(replace(own, values=values), objects, fields, self._priority_of, is_ticket=False)
        if "priority" in guesses and (own.text("severity") or "").isdigit():
            # 4 of 5, or 4 of 10: a word beside it says what a number means.
            word = evidence.severity_in_words(objects)
            if word is not None and (priority := self._priority_of(word)) is not None:
                mapped = replace(mapped, values={**mapped.values, "severity": word, "priority": priority})
        if is_low and "priority" in guesses - mapped.values.keys():
            mapped = replace(mapped, values={**mapped.values, "priority": "low"})
        mapped = evidence.with_id_of_runs(mapped, objects, guesses)
        return evidence.with_likely_id(mapped, objects, self.aliased_fields, guesses), is_own, objects

    def _likely_status(self, status: str, objects: MessageObjects) -> tuple[str, bool]:
        """Returns the status of a message from any tool: what most of its fields say, or else its own `status`; and
        whether no problem caused the message."""
        if evidence.is_test_message(objects):
            return "test", True  # And it ends none.
        verdict = evidence.read(objects)
        if verdict is None:
            other = "connected" if evidence.is_connected(objects) else evidence.unknown_status(objects)
            return status or other, False
        is_own = verdict.meaning is meaning_of(status) and not verdict.is_daily
        return status if is_own else verdict.status, verdict.is_daily

    def _takes_aliases(self, payload: object) -> bool:
        unaliased = self.unaliased
        return bool(self.aliased_fields) and (unaliased is None or not unaliased.matches(payload, _NOTHING))

    def map_completely(self, element: Element) -> MappedFields:
        """Returns the fields of a readable element as its alert gets them, texts included."""
        event = self.normalize(element)
        return event.mapped if isinstance(event, NormalizedEvent) else self.map_fields(element.payload)

    def _refuses_id(self, payload: object) -> bool:
        """Returns whether a value where the kind looks for its id is no id, such as that of another kind of object."""
        slots = self.mapping.extraction.read(payload)
        # A text may have an id in it, and need not.
        looked_at = (slots[a.slot] for a in self._alternatives_of("source_id") if a.slot >= 0)
        return any(value not in (None, "") and not (isinstance(value, str) and " " in value) for value in looked_at)

    def _describe(
        self, action: EventAction, mapped: MappedFields, payload: object, objects: MessageObjects | None
    ) -> MappedFields:
        """Returns the fields of a message that opens, with a subject and a text if the kind's own paths find none."""
        subject, long_text = mapped.text("subject"), mapped.text("long_text")
        is_complete = subject is not None and long_text is not None and subject != long_text
        if action is not EventAction.OPEN or not isinstance(payload, Mapping):
            return mapped
        if self.kind.assigns_source_agent:
            if subject is not None:
                if not subject.endswith(mapped.text("source_id") or subject):
                    return mapped
                # "New ticket 7" of "New ticket 7: VPN down"
                titles = (title for title in evidence.titles_of_ticket(collect(payload)) if title.startswith(subject))
                return replace(mapped, values={**mapped.values, "subject": max(titles, key=len, default=subject)})
            found = likely_texts.with_texts(mapped, payload, None, self.aliased_fields, self.guesses)
            # A ticket is better known by its number than by what happened to it.
            return mapped if found.text("subject") in (None, mapped.text("event")) else found
        if not is_complete or "subject" in self.guesses:
            mapped = likely_texts.with_texts(mapped, payload, objects, self.aliased_fields, self.guesses)
        return mapped if self.guesses or subject is None else likely_texts.with_tags_named(mapped)

    def _priority_of(self, severity: str) -> str | None:
        return self.priorities.get(severity.casefold()) or priority_of(severity)

    def _classify(self, payload: object, mapped: MappedFields, *, is_own: bool) -> tuple[EventAction, RuleMatch, bool]:
        """Returns what the message requests by the rules, with the reason, and whether it was understood. `is_own`: the
        kind's own path found the status.

        A status that no rule knows is read by the words that tools share. A message from a monitoring tool that says
        nothing of its status opens, because nobody would hear of it otherwise.
        """
        takes_words = bool(self.aliased_fields) and self.has_kind_rules
        if takes_words and not is_own:
            by_words = self._classify_foreign(mapped.text("source_status"), mapped.text("priority"))
            if by_words is not None:
                return by_words
        action, rule_match = self.rules.classify(payload, mapped)
        if self.kind.assigns_source_agent and (ended := self._classify_ended(payload, mapped, action, rule_match)):
            return EventAction.CLOSE, ended, True
        if rule_match.is_decisive or not takes_words:
            return action, rule_match, True
        return self._classify_by_words(payload, mapped, action, rule_match, is_own=is_own)

    def _classify_ended(
        self, payload: object, mapped: MappedFields, action: EventAction, rule_match: RuleMatch
    ) -> RuleMatch | None:
        """Returns why a ticket is closed that its status alone does not close; None if it is not."""
        if action in _ENDING or (action is EventAction.NONE and rule_match.is_decisive):
            return None
        closing = self._closing_status(payload, mapped)
        if closing is None:
            return None
        status, event = mapped.text("source_status"), _event_of(payload, mapped)
        why: Reason = STATUS(status=one_line(closing))
        if event is not None and status_in_event(event) == closing:
            why = sentence('event "{event}"', event=one_line(event))
        if status not in (None, closing):
            why = sentence('{why}, although the status is "{status}"', why=why, status=one_line(status))
        return RuleMatch(True, why)

    def with_closing_status(self, payload: object, mapped: MappedFields) -> MappedFields:
        """Returns the fields with the status that the rules decide by, for a trace."""
        closing = self._closing_status(payload, mapped) if self.kind.assigns_source_agent else None
        return mapped if closing is None else _with_status(mapped, closing)

    def _closing_status(self, payload: object, mapped: MappedFields) -> str | None:
        """Returns the status by which a ticket's message closes, of all those that it names: its event's, and unless
        the shown one opens or is in the integration's own rules, any that the mapping finds."""
        status, event = mapped.text("source_status"), _event_of(payload, mapped)
        if event is not None and meaning_of_ticket_event(event) is StatusMeaning.OPEN:
            return None  # Reopened: it was closed before.
        named = [] if event is None else [status_in_event(event)]
        is_settled = status is not None and (
            status.casefold() in self.own_rule_values
            or (self.rules.spec.open is not None and self.rules.spec.open.matches(payload, mapped))
        )
        if not is_settled:
            slots = self.mapping.extraction.read(payload)
            for field in self.mapping.fields:
                if field.name == "source_status":
                    found = (a.find(slots, payload, dict(mapped.values)) for a in field.alternatives)
                    named += [text for value in found if isinstance(text := field.cleaner(value, field.length), str)]
            named.append(status)
        return next(
            (one for one in dict.fromkeys(named) if one is not None and self._closes(one, payload, mapped)), None
        )

    def _closes(self, status: str, payload: object, mapped: MappedFields) -> bool:
        close = self.rules.spec.close
        if close is not None and close.matches(payload, _with_status(mapped, status)):
            return True
        takes_words = self.has_kind_rules and bool(self.aliased_fields)
        return takes_words and status.casefold() not in self.own_rule_values and is_closed_status(status)

    def _classify_foreign(self, status: str | None, priority: str | None) -> tuple[EventAction, RuleMatch, bool] | None:
        """Classifies a status that the kind's own path did not find: its rule "any status opens" is about its own."""
        if status is None or self.kind.assigns_source_agent or status.casefold() in self.rule_values:
            return None
        meaning = meaning_of(status)
        if self.guesses and is_daily_event(status) and (priority == "low" or meaning is None):
            why = sentence(
                '"{event}" is an everyday event, low unless the message has a priority', event=one_line(status)
            )
            return EventAction.OPEN, RuleMatch(True, why), True
        action = _ACTIONS.get(meaning)
        return None if action is None else (action, RuleMatch(True, STATUS(status=one_line(status))), True)

    def action_of_status(self, status: str) -> EventAction:
        """Returns what a message requests that says nothing but a status, where the kind looks for it."""
        mapped = MappedFields({"source_status": status}, {}, {})
        action, rule_match = self.rules.classify({}, mapped)
        if self.kind.assigns_source_agent and self._classify_ended({}, mapped, action, rule_match) is not None:
            return EventAction.CLOSE
        if rule_match.is_decisive or not self.aliased_fields or not self.has_kind_rules:
            return action
        return self._classify_by_words({}, mapped, action, rule_match, is_own=True)[0]

    def _classify_by_words(
        self, payload: object, mapped: MappedFields, action: EventAction, rule_match: RuleMatch, *, is_own: bool
    ) -> tuple[EventAction, RuleMatch, bool]:
        """Classifies a message that no rule decides. `is_own`: the kind's own path found the status."""
        status, event = mapped.text("source_status"), mapped.text("event")
        if status is not None and status.casefold() in self.own_rule_values:
            return action, rule_match, True
        if self.kind.assigns_source_agent:
            return self._classify_ticket(payload, mapped, is_own=is_own) or (action, rule_match, bool(event or is_own))
        if status is None:
            why = sentence(
                "no status in the message, so it opens; looked at {sources}. Add the status to the sender's message, "
                "or map it",
                sources=self._sources_of("source_status"),
            )
            return EventAction.OPEN, RuleMatch(True, why), False
        # A status that a rule names, and yet none decided, is decided by words only if the rule lacked the event.
        lacks_event = "event" in self.mapping.names and event is None
        is_decided = is_own and not lacks_event and status.casefold() in self.rule_values
        meaning = None if is_decided else meaning_of(status, is_own=is_own)
        if meaning is None and not is_decided and "event" not in self.mapping.names and status.casefold() in NEW_WORDS:
            # What is "created" is the alert, where nothing else may be.
            meaning = StatusMeaning.OPEN
        if meaning is None and self.kind.opens_unknown and event is not None:
            meaning = meaning_of(event)
        if meaning in _ACTIONS:
            return _ACTIONS[meaning], RuleMatch(True, STATUS(status=one_line(status))), True
        # A number that the kind does not know may be of another tool, and says nothing.
        is_foreign = not is_own or not any(map(str.isalpha, status))
        if meaning is None and (is_foreign or self.kind.opens_unknown):
            why = sentence(
                'unknown status "{status}", so it opens. Set what it does, or map the status', status=one_line(status)
            )
            return EventAction.OPEN, RuleMatch(True, why), not is_foreign
        return action, rule_match, meaning is not None or not lacks_event

    def _classify_ticket(
        self, payload: object, mapped: MappedFields, *, is_own: bool
    ) -> tuple[EventAction, RuleMatch, bool] | None:
        """Classifies a ticket that no rule knows: a new one opens whatever its first status is called, and so does an
        open one in a message without the event that the kind's rules open by; an event, and a status under a name that
        tools share, are read by words. A ticket with a subject of which nothing says that somebody has seen it opens
        unless it had an alert before. None for any other, which is an update of a known ticket."""
        status, event = mapped.text("source_status"), mapped.text("event")
        meaning = meaning_of(status) if status is not None else None
        if meaning is StatusMeaning.OPEN and status is not None and not may_be_new(status):
            meaning = None
        if event is not None and is_new_ticket(event) and self.new_tickets_open and meaning is not StatusMeaning.CLOSE:
            return (
                EventAction.OPEN,
                RuleMatch(True, sentence('new ticket (event "{event}")', event=one_line(event))),
                True,
            )
        # "Resolved", in any language, closes only by the rules where the ticket system has such a status.
        is_over = meaning is not StatusMeaning.CLOSE or "resolved" not in self.known_statuses
        is_of_other = meaning is StatusMeaning.OPEN and event is not None and is_of_known_ticket(event)
        is_telling = meaning in _ACTIONS and not is_of_other
        if status is not None and not is_own and is_telling and (is_over or is_closed_status(status)):
            return _ACTIONS[meaning], RuleMatch(True, STATUS(status=one_line(status))), True
        if status is None and event is not None:
            said = meaning_of_ticket_event(event)
            is_closing = said is StatusMeaning.CLOSE and status_in_event(event) not in self.known_statuses
            if is_closing or (said is StatusMeaning.OPEN and self.new_tickets_open):
                return _ACTIONS[said], RuleMatch(True, NO_STATUS_BUT_EVENT(event=one_line(event))), True
        if not self.new_tickets_open:
            return None
        if status is not None and is_new_status(status) and "new" in self.rule_values:
            return EventAction.OPEN, RuleMatch(True, STATUS(status=one_line(status))), True
        if status is not None and event is None and self.opens_by_event and is_open_status(status):
            why = sentence(
                'status "{status}", and the message names no event, so it opens. Add the event to the sender\'s '
                "message",
                status=one_line(status),
            )
            return EventAction.OPEN, RuleMatch(True, why), True
        is_decided = status is not None and status.casefold() in self.rule_values
        is_unseen = (status is None or may_be_new(status)) and (event is None or not is_of_known_ticket(event))
        if is_decided or not is_unseen or not self._has_subject(payload, mapped):
            return None
        why = sentence(
            "a ticket without an alert so far, and nothing in the message says whether it is new, so it opens; looked "
            "at {sources}. Add the status or the event to the sender's message",
            sources=self._sources_of("source_status"),
        )
        return EventAction.OPEN, RuleMatch(True, why), False

    def _has_subject(self, payload: object, mapped: MappedFields) -> bool:
        """Returns whether a message says what it is about, under the kind's names or those that tools share."""
        if "subject" in mapped.values:
            return True
        if "subject" not in self.aliased_fields or not isinstance(payload, Mapping):
            return False
        return evidence.has_subject(collect(payload))

    def _sources_of(self, name: str) -> str:
        sources = ", ".join([*dict.fromkeys(a.source_text for a in self._alternatives_of(name))][:8])
        return clean_line(sources, _MAX_SOURCES_CHARS) or ""

    def _alternatives_of(self, name: str) -> tuple[Alternative, ...]:
        return next((f.alternatives for f in self.mapping.fields if f.name == name), ())

    def _without_id(self) -> Rejected:
        sources = self._sources_of("source_id")
        return Rejected(
            "no_id",
            sentence("no {id} in the message; looked at {sources}", id=Term(self.kind.id_name), sources=sources),
            "source_id",
        )


def _event_of(payload: object, mapped: MappedFields) -> str | None:
    """Returns the event of a ticket's message, of one without any and without a status what its title says."""
    event = mapped.text("event")
    if event is not None or mapped.text("source_status") is not None or not isinstance(payload, Mapping):
        return event
    titles = (mapped.text("subject"),) if "subject" in mapped.values else evidence.titles_of_ticket(collect(payload))
    return next(filter(None, (event_in_title(title) for title in titles if title)), None)


def _with_status(mapped: MappedFields, status: str) -> MappedFields:
    return replace(mapped, values={**mapped.values, "source_status": status})


def _values_in(rules: object) -> Iterator[str]:
    """Yields the values that conditions compare with, in lower case."""
    if isinstance(rules, Mapping):
        for value in rules.values():
            yield from _values_in(value)
    elif isinstance(rules, list | tuple):
        for item in rules:
            yield from _values_in(item)
    elif isinstance(rules, str):
        yield rules.casefold()


def _fields_in(definition: object) -> Iterator[str]:
    """Yields what conditions look at: fields, and paths."""
    if isinstance(definition, Mapping):
        if isinstance(looked_at := definition.get("field"), str):
            yield looked_at
        for value in definition.values():
            yield from _fields_in(value)
    elif isinstance(definition, list | tuple):
        for item in definition:
            yield from _fields_in(item)


def _holds_objects(payload: Mapping[str, object]) -> bool:
    lists = (value if isinstance(value, list) else (value,) for value in payload.values())
    return any(isinstance(item, (Mapping, list)) for items in lists for item in items)


def _plain_names(mapping: CompiledMapping) -> frozenset[str]:
    """Returns the names at the top of a message that fields are read from, except those that may say a status too."""
    groups = (mapping.fields, mapping.tags, mapping.custom)
    paths = (
        alternative.source_text
        for group in groups
        for field in group
        if field.name != "event"
        for alternative in field.alternatives
        if alternative.slot >= 0
    )
    return frozenset(path for path in paths if path.isidentifier()) - {"action", "event_action"}


def compile_normalizer(
    kind: IntegrationKind, definition: IntegrationDefinition, hours_names: Mapping[RouteReference, str] | None = None
) -> Normalizer:
    """Compiles an integration's definition. `hours_names` are the support hours' names by id, for use in reasons.

    Raises Rejected with the field, such as "rules.open.all[1].operator: unknown operator …"."""
    settings = {**kind.default_settings, **definition.settings}
    merged: dict[str, object] = {**kind.mapping, **definition.mapping}
    # Tags and custom fields are merged one by one, like the fields beside them.
    for group in ("tags", "custom"):
        default_fields, own_fields = kind.mapping.get(group), definition.mapping.get(group)
        if isinstance(default_fields, Mapping) and isinstance(own_fields, Mapping):
            merged[group] = {**default_fields, **own_fields}
    key_template = definition.dedup_key
    if key_template:
        merged["dedup_key"] = {"template": key_template}
    try:
        mapping = compile_mapping(merged, settings)
    except Rejected as problem:
        if key_template and problem.field == "mapping.dedup_key.template":
            reason: Any = problem.reason
            raise rejected_at("dedup_key", reason["problem"], problem.code) from None
        raise
    filters = definition.filters if definition.filters is not None else kind.filters
    route_definitions = definition.routes if definition.routes is not None else kind.routes
    routes = compile_routes(route_definitions, mapping.names, hours_names=hours_names)
    noise_definitions = {name: getattr(definition, name) for name in NOISE_KEYS}
    delays = tuple(route.choice.delay for route in routes)
    rules = {**kind.rules, **definition.rules}
    rule_values = frozenset(_values_in(rules))
    is_aliased = kind.category is Category.API and "source_status" in merged
    aliased = ALIASES.keys() | {"priority", "long_text"} if is_aliased else frozenset[str]()
    removed = {name for name, entry in definition.mapping.items() if entry is None}
    priorities = settings.get("priorities")
    return Normalizer(
        kind=kind,
        mapping=mapping,
        rules=compile_rules(rules, filters, mapping.names),
        routes=routes,
        id_required=kind.id_required,
        has_key_template=merged.get("dedup_key") is not None,
        noise_settings=compile_noise_settings(
            noise_definitions, frozenset(mapping.names), settings, delays, hours_names
        ),
        aliased_fields=frozenset(aliased - removed),
        guesses=frozenset({"source_id", "source_status", "subject", "priority"} & aliased - definition.mapping.keys())
        if kind.opens_unknown
        else frozenset(),
        plain_names=_plain_names(mapping) if kind.opens_unknown else frozenset(),
        ticket_form=None
        if (form := kind.ticket_form) is None
        else TicketForm(form["place"], frozenset(map(fold, form["delivery"])), frozenset(map(fold, form["shared"]))),
        unaliased=compile_condition(kind.unaliased, "unaliased") if kind.unaliased is not None else None,
        has_kind_rules=rule_values.issuperset(_values_in(kind.rules)),
        rule_values=rule_values,
        own_rule_values=frozenset(_values_in(definition.rules)),
        known_statuses=frozenset(
            map(str.casefold, _values_in([settings.get(name) for name in ("statuses", "states")]))
        ),
        opens_by_event="event" in _values_in(kind.rules.get("open")),
        new_tickets_open=settings.get(NEW_TICKETS_OPEN.name) is not False,
        priorities={name.casefold(): level for name, level in priorities.items()}
        if isinstance(priorities, Mapping)
        else {},
        known_names=KnownNames.of_paths(
            compile_path(path.removeprefix("^")).segments
            for path in (
                *mapping.extraction.paths,
                *_fields_in((merged, rules, filters, route_definitions, kind.unaliased)),
            )
        ),
    )
