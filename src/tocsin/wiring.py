"""The composition root: connects the rooms' hooks, and lists the periodic tasks of a worker."""

from __future__ import annotations

from uuid import UUID

from tocsin.access import audit
from tocsin.access import tasks as access
from tocsin.alerts import commands, store
from tocsin.configure import models as import_runs
from tocsin.core import hooks
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.escalation import commands as policies
from tocsin.escalation import listener as escalation_listener
from tocsin.escalation import tasks as escalation
from tocsin.escalation.actions import deactivated_users
from tocsin.identity import commands as browser_sessions
from tocsin.inbound import maintenance_commands as maintenance_windows
from tocsin.inbound import tasks
from tocsin.inbound.admin import client_tables
from tocsin.inbound.admin import commands as integrations
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.deciding import state
from tocsin.notify import listener, notices, pause
from tocsin.notify import worker as notify
from tocsin.notify.dispatch import claim, delivery_queries
from tocsin.notify.inbound import delivery_receipts, verification
from tocsin.notify.registry import CHANNELS
from tocsin.oncall.calendars import calendar_import_worker
from tocsin.oncall.changes import commands as oncall
from tocsin.oncall.changes import overrides, swaps
from tocsin.operate import tasks as operate
from tocsin.outbound import commands as outbound
from tocsin.outbound import writeback as outbound_listener
from tocsin.outbound.delivery import dispatcher as outbound_dispatcher
from tocsin.outbound.delivery import queue as outbound_queue
from tocsin.outbound.halo_sync import poller
from tocsin.outbound.halo_sync.job_context import HaloJobHooks
from tocsin.people import addresses, sign_in_rules
from tocsin.people.changes import invitations
from tocsin.reports import handover as handover_notes
from tocsin.resources import row_security, visibility
from tocsin.web.accounts import views
from tocsin.workflows import commands as workflows
from tocsin.workflows.run import listener as workflow_listener
from tocsin.workflows.run import run_store as workflow_runs
from tocsin.workflows.run import tasks as workflow_tasks

#: Only pages and the API call these modules, in a process of their own. The worker sends what they queue, and knows the
#: texts only of modules that it has imported.
_MODULES_WITH_NOTICES = (notices, overrides, delivery_receipts, swaps, verification)

#: Functions by which rooms report references to an object of a lower room, so that it is not deleted while in use.
_REFERENCE_FINDERS = (
    ("user", store.alerts_using_user),
    ("user", oncall.schedules_using_user),
    ("user", policies.policies_using_user),
    ("user", integrations.integrations_using_user),
    ("group", oncall.schedules_using_group),
    ("group", policies.policies_using_group),
    ("group", integrations.integrations_using_group),
    ("group", outbound.integrations_using_group),
    ("group", policies.runs_using_group),
    ("schedule", policies.runs_using_schedule),
    ("escalation_policy", policies.policies_using_policy),
    ("escalation_policy", integrations.integrations_using_policy),
    ("group", browser_sessions.providers_using_group),
    ("group", client_tables.tables_using_group),
    ("escalation_policy", client_tables.tables_using_policy),
    ("group", maintenance_windows.windows_using_group),
    ("integration", maintenance_windows.windows_using_integration),
    ("client_table", integrations.integrations_using_client_table),
    ("schedule", policies.policies_using_schedule),
    ("support_hours", policies.policies_using_support_hours),
    ("support_hours", integrations.integrations_using_support_hours),
    ("holiday_calendar", oncall.schedules_using_calendar),
    ("user", workflows.workflows_using("users")),
    ("group", workflows.workflows_using("groups")),
    ("escalation_policy", workflows.workflows_using("policies")),
    ("outbound_integration", integrations.integrations_using_outbound),
    ("outbound_integration", workflows.workflows_using("outbound")),
    ("integration", integrations.alerts_of_integration),
)


#: What expires, in the order in which it is deleted.
_EXPIRIES = (
    *delivery_queries.EXPIRIES,
    *outbound_queue.EXPIRIES,
    *workflow_runs.EXPIRIES,
    *browser_sessions.EXPIRIES,
    *import_runs.EXPIRIES,
)


def install() -> None:
    """Registers the higher rooms' functions with the lower rooms' hooks. Called once, after all models are loaded."""
    # The order within the transaction: escalation runs first, then notifications about them.
    visibility.install()
    row_security.install()
    commands.HANDLERS.register(escalation_listener.handle_changes)
    commands.HANDLERS.register(listener.all_clear)
    commands.HANDLERS.register(outbound_listener.follow)
    commands.HANDLERS.register(workflow_listener.handle_changes)
    outbound_dispatcher.register("haloitsm", HaloJobHooks())
    state.register(outbound_listener.load_recent_writes, outbound_listener.mark_echoed)
    store.QUESTION_LOOKUPS.register(escalation.open_questions)
    claim.SLA_LOOKUPS.register(workflow_runs.load_sla_moments)
    for kind, find_references in _REFERENCE_FINDERS:
        hooks.REFERENCES.register(find_references, kind)
    policies.POLICY_USES.register(integrations.uses_of_policy)
    audit.CHECKS.register(sign_in_rules.check_settings)
    audit.REACTIONS.register(browser_sessions.apply_lifetime)
    invitations.SENDERS.register(views.send)
    for expiry in _EXPIRIES:
        hooks.EXPIRIES.register(expiry)
    hooks.DELETIONS.register(listener.erase_user, "user")
    hooks.CHANGES.register(pause.reschedule_user, "user")
    for channel in CHANNELS.values():
        addresses.register(channel)


def worker_tasks(registry: IntegrationRegistry, node_id: UUID, role: str) -> tuple[PeriodicTask, ...]:
    """Returns the periodic tasks of a worker."""
    return (
        *tasks.worker_tasks(registry),
        escalation.escalation_task(),
        deactivated_users.deactivated_users_task(),
        *notify.loops(),
        *notices.loops(),
        notices.token_expiry_task(),
        *handover_notes.handover_tasks(),
        calendar_import_worker.calendar_import_task(),
        *outbound_dispatcher.dispatcher_tasks(),
        *poller.polling_tasks(outbound_dispatcher.shared_dispatcher().pool),
        workflow_tasks.workflow_task(),
        *access.access_tasks(),
        *operate.operate_tasks(),
    )
