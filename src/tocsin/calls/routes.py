"""Call routes as users write them, and how the router takes them.

A route is a flat object: form, API, YAML, reference, audit entries and what it refers to follow from `CallRouteSpec`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from django.conf import settings
from pydantic import BeforeValidator, Field

from tocsin.access import boundary
from tocsin.alerts.states import Priority
from tocsin.calls.models import CallRoute
from tocsin.calls.states import (
    AnsweredAlert,
    CallerId,
    MenuAction,
    MenuEntry,
    OutsideHours,
    RingOrder,
    RouteSettings,
    RouteTarget,
    TargetKind,
)
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Term, Text, sentence
from tocsin.core.reasons import translatable as _
from tocsin.core.validation.inputs import NO_SUCH_GROUP, REQUIRED, TOO_MANY_ENTRIES
from tocsin.core.validation.spec import (
    InForm,
    InvalidValue,
    Line,
    OneOf,
    OwnedSpec,
    Reference,
    Spec,
    SpecErrors,
    list_of,
    to_tuple,
)
from tocsin.escalation.policy import NO_SUCH_POLICY, NO_SUCH_SUPPORT_HOURS
from tocsin.notify.channels.phone import NOT_A_NUMBER, is_phone_number
from tocsin.notify.interfaces import CHANNELS
from tocsin.notify.models import Provider
from tocsin.notify.providers.commands import call_hotline
from tocsin.notify.providers.pool import KINDS
from tocsin.oncall.reasons import NO_SUCH_SCHEDULE
from tocsin.outbound.models import OutboundIntegration
from tocsin.people.changes.flat_objects import FlatObject
from tocsin.people.changes.users import LANGUAGES
from tocsin.people.models import ContactMethod, names_check

_NO_SUCH_PROVIDER = Text('no provider named "{name}".')
_NO_SUCH_OUTBOUND = Text('unknown outbound integration "{name}".')

MAX_MENU_ENTRIES = 9
MAX_NUMBERS = 20
MAX_BLOCKED = 500
MAX_SPOKEN_CHARS = 1000


def _number(text: str) -> str:
    """Returns a number as it is entered, in E.164 form."""
    bare = re.sub(r"[\s().\-/]", "", text)
    number = f"+{bare[2:]}" if bare.startswith("00") else bare
    if not is_phone_number(number):
        raise InvalidValue(NOT_A_NUMBER(number=text[:50]))
    return number


_Name = Annotated[str, Field(max_length=200)]
_Policy = Annotated[_Name | None, Reference("escalation.Policy", NO_SUCH_POLICY)]
_Group = Annotated[_Name | None, Reference("people.Group", NO_SUCH_GROUP)]

#: What a voice says.
_Spoken = Annotated[str, Field(max_length=MAX_SPOKEN_CHARS)]


class MenuEntrySpec(Spec):
    """One key of the menu, with what it chooses."""

    key: int = Field(ge=1, le=9, description="Key of the phone.")
    label: Line = Field(default="", max_length=100, description="What the caller hears, such as `network problems`.")
    group: _Group = Field(default=None, description="Name of a group. Its people on call are rung.")
    policy: _Policy = Field(
        default=None, alias="escalation_policy", description="Name of an escalation policy. Its people are rung."
    )
    client: Line | None = Field(
        default=None,
        max_length=200,
        description="Name of a client: the group and policy are those of the client table with it.",
    )
    voicemail: bool = Field(default=False, description="Whether the caller leaves a message.")
    sentence: _Spoken | None = Field(default=None, description="A sentence that the caller hears before the call ends.")

    def check(self, errors: SpecErrors) -> None:
        chosen = [action for action in MenuAction if getattr(self, action) not in (None, "", False)]
        if not errors and len(chosen) != 1:
            errors.add("", sentence("name one of group, escalation_policy, client, voicemail or sentence."), "missing")

    def entry(self) -> MenuEntry:
        """Returns the entry as the router takes it."""
        action = next(action for action in MenuAction if getattr(self, action) not in (None, "", False))
        value: Any = getattr(self, action)
        is_target = action in (MenuAction.GROUP, MenuAction.POLICY)
        text = value if action in (MenuAction.CLIENT, MenuAction.SENTENCE) else ""
        return MenuEntry(str(self.key), action, self.label, value if is_target else None, text)


class CallRouteSpec(OwnedSpec):
    """A call route: phone numbers whose calls reach who is on call."""

    is_enabled: Annotated[bool, InForm(_("Enabled"))] = Field(
        default=True, alias="enabled", description="Whether calls are routed. Otherwise callers hear that they are not."
    )
    numbers: Annotated[
        tuple[str, ...],
        list_of(_number, {}),
        InForm(_("Phone numbers"), _("The numbers that callers dial, with country code."), widget="lines"),
    ] = Field(description="Phone numbers with country code. A number belongs to one route.")
    provider: Annotated[
        _Name,
        Field(min_length=1),
        Reference("notify.Provider", _NO_SUCH_PROVIDER),
        InForm(_("Provider"), _("The account that has the numbers.")),
    ] = Field(description="Name of the provider that has the numbers.")
    language: Annotated[str, OneOf(LANGUAGES), InForm(_("Language"), choices=dict(settings.LANGUAGES))] = Field(
        default="en", description="Language of the voice."
    )
    greeting: Annotated[_Spoken, InForm(_("Greeting"), _("Callers hear this first."), widget="long text")] = Field(
        default="", description="What callers hear first."
    )
    policy: Annotated[
        _Policy,
        InForm(
            _("Escalation policy"),
            _("Rings the people of its steps, one step after the other, without its delays."),
            section="whom",
            empty=_("None"),
        ),
    ] = Field(
        default=None,
        alias="escalation_policy",
        description="Name of the policy whose people are rung, step by step, without its delays.",
    )
    schedule: Annotated[
        Annotated[_Name | None, Reference("oncall.Schedule", NO_SUCH_SCHEDULE)],
        InForm(_("Schedule"), _("Instead of a policy: rings who is on call in it."), section="whom", empty=_("None")),
    ] = Field(default=None, description="Name of the schedule whose people on call are rung, instead of a policy.")
    recipient_group: Annotated[
        _Group,
        InForm(
            _("Group"),
            _("Its people on call are rung, its members see the calls. A policy's roles are resolved in it."),
            section="whom",
            empty=_("The owner"),
        ),
    ] = Field(
        default=None,
        description="Name of the group whose people on call are rung, and in which a policy's roles are resolved. "
        "Default: the owner.",
    )
    ring_order: Annotated[
        RingOrder,
        OneOf(),
        InForm(
            _("Order"),
            section="whom",
            choices={RingOrder.IN_ORDER: _("One after another"), RingOrder.ALL_AT_ONCE: _("All at once")},
        ),
    ] = Field(default=RingOrder.IN_ORDER, description="Whether people are rung one after another or all at once.")
    ring_seconds: Annotated[
        int,
        InForm(
            _("Seconds per person"), _("A phone's own voicemail often answers after 20 to 30 seconds."), section="whom"
        ),
    ] = Field(default=25, ge=10, le=60, description="For how many seconds a phone rings.")
    rounds: Annotated[int, InForm(_("Rounds"), section="whom")] = Field(
        default=1, ge=1, le=5, description="How often everyone is rung."
    )
    skip_rung: Annotated[
        bool,
        InForm(
            _("Ring each number once a round"), _("Even if a later step names the same person again."), section="whom"
        ),
    ] = Field(default=False, description="Whether a number rings once a round, however many steps name it.")
    caller_id: Annotated[
        CallerId,
        OneOf(),
        InForm(
            _("Number shown to the person rung"),
            _("Save this route's number as a favourite on your phone, and it rings through Do Not Disturb."),
            section="whom",
            choices={CallerId.SERVICE: _("The number that was called"), CallerId.CALLER: _("The caller's")},
        ),
    ] = Field(default=CallerId.SERVICE, description="Whether the person who is rung sees the number that was called.")
    menu: Annotated[
        tuple[MenuEntrySpec, ...],
        BeforeValidator(lambda entries: to_tuple(entries, MAX_MENU_ENTRIES)),
        Field(json_schema_extra={"maxItems": MAX_MENU_ENTRIES}),
        InForm(_("Menu"), section="menu"),
    ] = Field(default=(), description="Up to nine keys among which the caller chooses. Default: none.")
    support_hours: Annotated[
        Annotated[_Name | None, Reference("oncall.SupportHours", NO_SUCH_SUPPORT_HOURS)],
        InForm(_("Support hours"), section="hours", empty=_("Always")),
    ] = Field(default=None, description="Name of the support hours within which people are rung. Default: always.")
    outside_hours: Annotated[
        OutsideHours,
        OneOf(),
        InForm(
            _("Outside them"),
            section="hours",
            choices={
                OutsideHours.SAME: _("The same"),
                OutsideHours.VOICEMAIL: _("Voicemail"),
                OutsideHours.SENTENCE: _("A sentence"),
            },
        ),
    ] = Field(default=OutsideHours.VOICEMAIL, description="What callers get outside the support hours.")
    outside_sentence: Annotated[
        _Spoken,
        InForm(_("What callers hear outside them"), section="hours", widget="long text"),
    ] = Field(default="", description="What callers hear outside the support hours.")
    raise_again_at_hours: Annotated[
        bool,
        InForm(
            _("Page again when they begin"),
            _("Alerts of missed calls and voicemails that are still open then."),
            section="hours",
        ),
    ] = Field(
        default=False,
        description="Whether the alert of a call outside the support hours pages again when they begin.",
    )
    voicemail: Annotated[
        bool,
        InForm(
            _("Voicemail"), _("If no one answers. Otherwise callers hear that no one is free."), section="voicemail"
        ),
    ] = Field(default=True, description="Whether callers whom no one answers can leave a message.")
    voicemail_greeting: Annotated[_Spoken, InForm(_("Announcement"), section="voicemail", widget="long text")] = Field(
        default="", description="What callers hear before the tone."
    )
    transcribe: Annotated[
        bool,
        InForm(_("Transcribe"), _("If the provider can. It reads the message then."), section="voicemail"),
    ] = Field(default=False, description="Whether the provider transcribes voicemails.")
    record_calls: Annotated[
        bool,
        InForm(_("Record calls"), _("Callers hear that the call is recorded."), section="voicemail"),
    ] = Field(default=False, description="Whether conversations are recorded. Callers hear it first.")
    recording_days: Annotated[int, InForm(_("Keep recordings (days)"), section="voicemail")] = Field(
        default=90, ge=1, le=3650, description="For how many days recordings are kept."
    )
    alert_when_answered: Annotated[
        AnsweredAlert,
        OneOf(),
        InForm(
            _("When someone answers"),
            section="alert",
            choices={
                AnsweredAlert.OPEN: _("Open an alert, assigned to them"),
                AnsweredAlert.CLOSED: _("Record a closed alert"),
                AnsweredAlert.NONE: _("No alert"),
            },
        ),
    ] = Field(default=AnsweredAlert.OPEN, description="What becomes of a call that someone accepted.")
    priority: Annotated[
        Priority,
        OneOf(),
        InForm(
            _("Priority"),
            section="alert",
            choices={
                Priority.CRITICAL: _("Critical"),
                Priority.HIGH: _("High"),
                Priority.MEDIUM: _("Medium"),
                Priority.LOW: _("Low"),
            },
        ),
    ] = Field(default=Priority.HIGH, description="Priority of the alerts.")
    alert_policy: Annotated[
        _Policy,
        InForm(
            _("Page missed calls and voicemails by"),
            section="alert",
            empty=_("The policy that is rung; without one, page no one"),
        ),
    ] = Field(
        default=None,
        description="Name of the policy that pages about missed calls and voicemails. Default: `escalation_policy`.",
    )
    ticket_integration: Annotated[
        Annotated[_Name | None, Reference("outbound.OutboundIntegration", _NO_SUCH_OUTBOUND)],
        InForm(_("Create a ticket in"), _("For missed calls and voicemails."), section="alert", empty=_("None")),
    ] = Field(
        default=None,
        description="Name of the outbound integration to HaloITSM in which missed calls and voicemails become tickets.",
    )
    blocked: Annotated[
        tuple[str, ...],
        list_of(_number, {}),
        InForm(_("Blocked callers"), _("Calls from these numbers are refused."), widget="lines", section="blocked"),
    ] = Field(default=(), description="Phone numbers whose calls are refused.")

    def check(self, errors: SpecErrors) -> None:
        if not self.numbers:
            errors.add("numbers", REQUIRED(), "missing")
        for key, maximum in (("numbers", MAX_NUMBERS), ("blocked", MAX_BLOCKED)):
            if (length := len(getattr(self, key))) > maximum:
                errors.add(key, TOO_MANY_ENTRIES(maximum=maximum, length=length))
        errors.add_duplicates("menu", (str(entry.key) for entry in self.menu), "key")
        if self.policy is not None and self.schedule is not None:
            errors.add("schedule", sentence("name either an escalation policy or a schedule, not both."))
        is_whom = self.policy or self.schedule or self.recipient_group or self.group or self.menu
        if not is_whom and not errors.has("escalation_policy", "schedule", "recipient_group", "group", "menu"):
            errors.add(
                "escalation_policy",
                sentence("name whom a call reaches: an escalation policy, a schedule, a group or a menu."),
                "missing",
            )
        if self.outside_hours is OutsideHours.SENTENCE and not self.outside_sentence:
            errors.add("outside_sentence", sentence("say what callers hear outside the support hours."), "missing")
        for number in set(self.numbers).intersection(self.blocked):
            errors.add("blocked", sentence("{number} is a number of this route.", number=number))
        if not self.voicemail:
            places = [f"menu[{index}]" for index, entry in enumerate(self.menu) if entry.voicemail]
            if self.support_hours is not None and self.outside_hours is OutsideHours.VOICEMAIL:
                places.append("outside_hours")
            for place in places:
                errors.add(place, sentence("this needs voicemail, which is disabled."))


def _check_accounts(read: CallRouteSpec, errors: SpecErrors) -> None:
    number: Any = read.provider  # a name while it is read, then its id
    provider = Provider.objects.filter(pk=number).first() if not errors.has("provider") else None
    kind = KINDS.get(provider.kind) if provider else None
    if kind is not None and not kind.carries_calls:
        errors.add("provider", sentence("{kind} carries no calls to hotlines.", kind=Term(kind.label)))
    ticket: Any = read.ticket_integration
    if ticket and not OutboundIntegration.objects.filter(pk=ticket, kind="haloitsm").exists():
        errors.add("ticket_integration", sentence("must be an outbound integration to HaloITSM."))


def _check(existing: CallRoute | None) -> Callable[[CallRouteSpec, SpecErrors], None]:
    """Besides the name and the owner: a number belongs to one route, the provider carries calls, tickets are created by
    a service desk."""
    check_name = names_check(CallRoute, existing)

    def check(read: CallRouteSpec, errors: SpecErrors) -> None:
        check_name(read, errors)
        _check_accounts(read, errors)
        with boundary.unbounded():
            routes = CallRoute.objects.exclude(pk=existing.pk) if existing else CallRoute.objects.all()
            taken = {
                number: route
                for route in routes.filter(numbers__overlap=list(read.numbers))
                for number in route.numbers
            }
        with boundary.as_viewer():
            visible = set(CallRoute.objects.values_list("pk", flat=True))
        for index, number in enumerate(read.numbers):
            if (other := taken.get(number)) is None:
                continue
            if other.pk in visible:
                problem = sentence("{number} belongs to call route {name}.", number=number, name=other.name)
            else:
                problem = sentence("{number} belongs to a call route of another group.", number=number)
            errors.add(f"numbers[{index}]", problem, "name_taken")

    return check


CALL_ROUTES = FlatObject("call_route", CallRoute, CallRouteSpec, check=_check)


def settings_of(route: CallRoute) -> RouteSettings:
    """Returns a stored route as the router takes it."""
    return RouteSettings(
        name=route.name,
        language=route.language,
        greeting=route.greeting,
        menu=tuple(MenuEntrySpec.model_construct(**_entry(stored)).entry() for stored in route.menu),
        outside_hours=OutsideHours(route.outside_hours),
        outside_sentence=route.outside_sentence,
        ring_order=RingOrder(route.ring_order),
        rounds=route.rounds,
        ring_seconds=route.ring_seconds,
        skip_rung=route.skip_rung,
        caller_id=CallerId(route.caller_id),
        blocked=frozenset(route.blocked),
        has_voicemail=route.voicemail,
        voicemail_greeting=route.voicemail_greeting,
        is_recorded=route.record_calls,
        is_transcribed=route.transcribe,
        alert_when_answered=AnsweredAlert(route.alert_when_answered),
        priority=Priority(route.priority),
        is_enabled=route.is_enabled,
        numbers=tuple(route.numbers),
        target=_target(route),
        group_id=route.recipient_group_id or route.group_id,
        support_hours_id=route.support_hours_id,
        raises_again_at_hours=route.raise_again_at_hours,
        alert_policy_id=route.alert_policy_id or route.policy_id,
        ticket_integration_id=route.ticket_integration_id,
        recording_days=route.recording_days,
    )


def _target(route: CallRoute) -> RouteTarget | None:
    if route.policy_id:
        return RouteTarget(TargetKind.POLICY, route.policy_id)
    if route.schedule_id:
        return RouteTarget(TargetKind.SCHEDULE, route.schedule_id)
    # With a menu, the owner's people are rung only if that is said.
    group_id = route.recipient_group_id or (None if route.menu else route.group_id)
    return RouteTarget(TargetKind.GROUP, group_id) if group_id else None


def _entry(stored: Mapping[str, Any]) -> dict[str, Any]:
    return {name: stored.get(name, info.default) for name, info in MenuEntrySpec.model_fields.items()}


def find_route(number: str) -> CallRoute | None:
    """Returns the route of a called number, whoever may see it."""
    with boundary.unbounded():
        return CallRoute.objects.select_related("provider").filter(numbers__contains=[number]).first()


# ---------- a test call

_NO_PHONE = Text("You have no phone number for calls. Add one to your contact methods first.")
_PROVIDER_DISABLED = Text("{provider} is disabled, or carries no calls.")


def call_for_test(route: CallRoute, user_id: int) -> str:
    """Calls the user, who then is a caller of the route. Returns the number that rings.

    Raises Rejected without a phone or a provider, and else as senders do. Holds no transaction.
    """
    channels = [name for name, channel in CHANNELS.items() if channel.is_call]
    methods = ContactMethod.objects.filter(user=user_id, channel__in=channels, is_enabled=True, awaits_code=False)
    if (method := methods.first()) is None:
        raise Rejected("invalid", _NO_PHONE())
    provider = route.provider
    if not provider.is_enabled or provider.kind not in KINDS or not KINDS[provider.kind].carries_calls:
        raise Rejected("invalid", _PROVIDER_DISABLED(provider=provider.name))
    call_hotline(provider, method.address, route.numbers[0])
    return method.address
