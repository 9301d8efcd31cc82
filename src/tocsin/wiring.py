"""The composition root: which reactors follow an alert event, and which loops a worker runs."""

from __future__ import annotations

from uuid import UUID

from tocsin.alerts import needs, reactors, rows
from tocsin.core import dependents
from tocsin.core.loops import Loop
from tocsin.escalation import at_work, departed, reachable
from tocsin.escalation import commands as policies
from tocsin.escalation import loop as escalation
from tocsin.escalation import reactor as escalation_reactor
from tocsin.inbound import client_tables, other_side
from tocsin.inbound import commands as integrations
from tocsin.inbound import loop as inbound
from tocsin.inbound.maintenance import commands as maintenance_windows
from tocsin.inbound.registry import Registry
from tocsin.notify import another_look, duty_notices, erasing, phones, telling
from tocsin.notify import loop as notify
from tocsin.notify import reactor as notify_reactor
from tocsin.notify.channels.chat_services import addresses as service_addresses
from tocsin.notify.channels.common import PHONES
from tocsin.notify.channels.registry import CHANNELS
from tocsin.oncall import commands as oncall
from tocsin.oncall import imports_loop
from tocsin.operate import loop as operate
from tocsin.outbound import commands as outbound
from tocsin.outbound import outbox as outbound_outbox
from tocsin.outbound import own_writes, preparing
from tocsin.outbound import reactor as outbound_reactor
from tocsin.outbound.connectors.haloitsm import looking
from tocsin.outbound.connectors.haloitsm.preparing import HaloPreparer
from tocsin.people import addresses
from tocsin.web.told import told_in
from tocsin.workflows import commands as workflows
from tocsin.workflows import loop as workflow_loop
from tocsin.workflows import reactor as workflow_reactor

#: The channels that take a chat or push service's own address.
_SERVICE_CHANNELS = ("chat", "push")

#: Who knows what still needs an object of a lower room, so that it is not deleted from under it.
_NEEDS = (
    ("user", needs.needs_user),
    ("user", oncall.needs_user),
    ("user", policies.needs_user),
    ("user", integrations.needs_user),
    ("group", oncall.needs_group),
    ("group", policies.needs_group),
    ("group", integrations.needs_group),
    ("group", outbound.needs_group),
    ("group", at_work.needs_group),
    ("schedule", at_work.needs_schedule),
    ("policy", policies.needs_policy),
    ("policy", integrations.needs_policy),
    ("group", client_tables.needs_group),
    ("policy", client_tables.needs_policy),
    ("group", maintenance_windows.needs_group),
    ("integration", maintenance_windows.needs_integration),
    ("client_table", integrations.needs_client_table),
    ("schedule", policies.needs_schedule),
    ("support_hours", policies.needs_support_hours),
    ("support_hours", integrations.needs_support_hours),
    ("holiday_calendar", oncall.needs_holiday_calendar),
    ("user", workflows.needs("users")),
    ("group", workflows.needs("groups")),
    ("policy", workflows.needs("policies")),
    ("outbound", workflows.needs("outbound")),
)


def install() -> None:
    """Hangs the higher rooms' functions on the lower rooms' hooks. Called once, when all models are loaded."""
    # The order is that of the transaction: first the runs, then what people are told of it.
    reactors.register(escalation_reactor.follow)
    reactors.register(notify_reactor.all_clear)
    reactors.register(outbound_reactor.follow)
    reactors.register(workflow_reactor.follow)
    preparing.register("haloitsm", HaloPreparer())
    other_side.register(own_writes.ask, own_writes.keep)
    rows.register_asked(escalation.asked)
    telling.tell_by(told_in)
    for noun, ask in _NEEDS:
        dependents.register(noun, ask)
    reachable.register(integrations.uses_of_policy)
    dependents.register_forgetting("user", erasing.forget)
    dependents.register_following("user", another_look.of_person)
    for name, channel in CHANNELS.items():
        check = phones.as_entered(channel) if name in PHONES else channel.address
        addresses.register(name, check, service_addresses.own_server if name in _SERVICE_CHANNELS else None)


def loops(registry: Registry, node_id: UUID, role: str) -> tuple[Loop, ...]:
    """The loops of a worker."""
    return (
        *inbound.loops(registry),
        escalation.loop(),
        departed.loop(),
        *notify.loops(),
        *duty_notices.loops(),
        imports_loop.loop(),
        *outbound_outbox.loops(),
        *looking.loops(outbound_outbox.shared().directory),
        workflow_loop.loop(),
        *operate.loops(),
    )
