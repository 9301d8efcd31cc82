"""The composition root: connects the rooms' hooks, and lists the periodic tasks of a worker."""

from __future__ import annotations

from uuid import UUID

from tocsin.access import audit
from tocsin.access import audit_log as access
from tocsin.alerts import commands, store
from tocsin.calls import service as calls
from tocsin.configure import models as import_runs
from tocsin.core import hooks
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.escalation import commands as policies
from tocsin.escalation import tasks as escalation
from tocsin.escalation.run.run_store import handle_changes
from tocsin.identity import commands as browser_sessions
from tocsin.inbound import tasks
from tocsin.inbound.admin import commands as integrations
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.deciding import state
from tocsin.notify import event_receiver, listener, notices, pause
from tocsin.notify import worker as notify
from tocsin.notify.dispatch import claim, updates
from tocsin.notify.inbound import responder_actions, verification
from tocsin.notify.providers.pool import CHANNELS
from tocsin.oncall.calendars import calendar_import_worker
from tocsin.oncall.changes import commands as oncall
from tocsin.oncall.changes import overrides, swaps
from tocsin.operate import tasks as operate
from tocsin.outbound import writeback
from tocsin.outbound.delivery import dispatcher as outbound_dispatcher
from tocsin.outbound.delivery import queue as outbound_queue
from tocsin.outbound.halo_sync import poller
from tocsin.people import addresses, sign_in_rules
from tocsin.people.changes import invitations
from tocsin.reports import announcements, client_month
from tocsin.reports import handover as handover_notes
from tocsin.resources import registry, visibility
from tocsin.web.accounts import views
from tocsin.workflows.run import listener as workflow_listener
from tocsin.workflows.run import run_store as workflow_runs
from tocsin.workflows.run import tasks as workflow_tasks

#: Only pages and the API call these modules, in a process of their own. The worker sends what they queue, and knows the
#: texts only of modules that it has imported.
_MODULES_WITH_NOTICES = (notices, overrides, responder_actions, swaps, verification)

#: What prevents an object's deletion besides the configuration that refers to it, which `resources` finds.
_REFERENCE_FINDERS = (
    ("user", store.alerts_using_user),
    ("user", oncall.stand_ins_by_user),
    ("group", policies.runs_using_group),
    ("schedule", policies.runs_using_schedule),
    ("integration", integrations.alerts_of_integration),
)


#: What expires, in the order in which it is deleted.
_EXPIRIES = (
    *claim.EXPIRIES,
    *outbound_queue.EXPIRIES,
    *workflow_runs.EXPIRIES,
    *browser_sessions.EXPIRIES,
    *import_runs.EXPIRIES,
    *calls.EXPIRIES,
)


def install() -> None:
    """Registers the higher rooms' functions with the lower rooms' hooks. Called once, after all models are loaded."""
    # The order within the transaction: escalation runs first, then notifications about them.
    visibility.install()
    visibility.install_row_security()
    commands.HANDLERS.register(handle_changes)
    commands.HANDLERS.register(listener.all_clear)
    commands.HANDLERS.register(updates.follow)
    commands.HANDLERS.register(writeback.follow)
    commands.HANDLERS.register(workflow_listener.handle_changes)
    state.register(writeback.load_recent_writes, writeback.mark_echoed)
    store.QUESTION_LOOKUPS.register(escalation.open_questions)
    claim.SLA_LOOKUPS.register(workflow_runs.load_sla_moments)
    for kind, find_references in (*_REFERENCE_FINDERS, *registry.REFERENCE_FINDERS.items()):
        hooks.REFERENCES.register(find_references, kind)
    responder_actions.ALERT_OPENERS.register(policies.open_for_own_groups)
    policies.POLICY_USES.register(integrations.uses_of_policy)
    audit.CHECKS.register(sign_in_rules.check_settings)
    audit.REACTIONS.register(browser_sessions.apply_lifetime)
    invitations.SENDERS.register(views.send)
    for expiry in _EXPIRIES:
        hooks.EXPIRIES.register(expiry)
    hooks.DELETIONS.register(listener.erase_user, "user")
    hooks.DELETIONS.register(calls.erase_user, "user")
    event_receiver.HOTLINES.register(calls.handle_hotline)
    hooks.CHANGES.register(pause.reschedule_user, "user")
    for channel in CHANNELS.values():
        addresses.register(channel)


def worker_tasks(registry: IntegrationRegistry, node_id: UUID, role: str) -> tuple[PeriodicTask, ...]:
    """Returns the periodic tasks of a worker."""
    return (
        *tasks.worker_tasks(registry),
        escalation.escalation_task(),
        escalation.deactivated_users_task(),
        *notify.loops(),
        *notices.loops(),
        notices.token_expiry_task(),
        *handover_notes.handover_tasks(),
        client_month.client_report_task(),
        *announcements.announcement_tasks(),
        calendar_import_worker.calendar_import_task(),
        *outbound_dispatcher.dispatcher_tasks(),
        *poller.polling_tasks(outbound_dispatcher.shared_dispatcher().pool),
        workflow_tasks.workflow_task(),
        calls.calls_task(notify.shared_dispatcher().provider_pool),
        *access.access_tasks(),
        *operate.operate_tasks(),
    )
