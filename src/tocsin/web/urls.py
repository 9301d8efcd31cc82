"""URL configuration of the web interface."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView

from tocsin.identity.presets import ProviderProtocol
from tocsin.resources import registry
from tocsin.web.accounts import browser_sessions
from tocsin.web.accounts import views as accounts
from tocsin.web.accounts.sso import saml, single_sign_on
from tocsin.web.alerts import create, detail, signed_link, why_not_notified
from tocsin.web.alerts import views as alerts
from tocsin.web.audit import views as audit
from tocsin.web.calendar import views as calendar
from tocsin.web.client_tables import views as client_tables
from tocsin.web.clients import status_page
from tocsin.web.clients import views as clients
from tocsin.web.groups import views as groups
from tocsin.web.home import views as home
from tocsin.web.hooks import views as hooks
from tocsin.web.http import pwa
from tocsin.web.identity import links, provisioning
from tocsin.web.identity import views as identity_providers
from tocsin.web.imports import views as imports
from tocsin.web.inbound import attachments, replay
from tocsin.web.inbound import views as inbound
from tocsin.web.integrations import delayed, routing_presets, tabs, test_tab, versions
from tocsin.web.integrations import views as integrations
from tocsin.web.integrations.editor import rule_editor
from tocsin.web.maintenance import views as maintenance
from tocsin.web.me import absences as my_absences
from tocsin.web.me import contact_tests, notification_rules, onboarding, tokens, verify_contact
from tocsin.web.me import shifts as my_shifts
from tocsin.web.me import views as me
from tocsin.web.oncall import (
    board,
    feeds,
    handovers,
    month_view,
    overrides,
    reassign_shift,
    swap_link,
    swaps,
    timeline,
)
from tocsin.web.oncall.schedules import holidays, schedules, support_hours
from tocsin.web.outbound import calls as outbound_calls
from tocsin.web.outbound import tickets as outbound_tickets
from tocsin.web.outbound import views as outbound
from tocsin.web.pause import views as pause
from tocsin.web.policies import views as policies
from tocsin.web.providers import mail_replies
from tocsin.web.providers import views as providers
from tocsin.web.push import views as push
from tocsin.web.reports import fairness
from tocsin.web.reports import files as report_files
from tocsin.web.reports import views as reports
from tocsin.web.sandbox import views as sandbox
from tocsin.web.search import views as search
from tocsin.web.styleguide import views as styleguide
from tocsin.web.system import views as system
from tocsin.web.ui.confirm_delete import delete_view
from tocsin.web.users import invite_many, service_accounts
from tocsin.web.users import views as users
from tocsin.web.wall import views as wall
from tocsin.web.workflows import runs as workflow_runs
from tocsin.web.workflows import views as workflows

handler400 = "tocsin.web.http.errors.bad_request"
handler403 = "tocsin.web.http.errors.forbidden"
handler404 = "tocsin.web.http.errors.not_found"
handler500 = "tocsin.web.http.errors.failed"

_alerts = [
    path("", alerts.alert_list, name="alerts"),
    path("new/", create.new_alert, name="new_alert"),
    path("bulk", alerts.bulk, name="alerts_bulk"),
    path("open-count", alerts.open_count, name="open_count"),
    path("<int:number>/", detail.alert_detail, name="alert"),
    path("<int:number>/why-not-notified/", why_not_notified.why_not_notified, name="why_not_notified"),
    path("<int:number>/buttons/<int:workflow_id>", workflow_runs.press, name="press_button"),
    path("<int:number>/ticket", outbound_tickets.create_ticket, name="create_ticket"),
    path("<int:number>/<slug:kind>", detail.command, name="alert_command"),
]

_inbound_log = [
    path("", inbound.log, name="inbound_log"),
    path("replay", replay.replay_many, name="replay_many"),
    path("<uuid:message_id>/", inbound.message, name="message"),
    path("<uuid:message_id>/attachments/<int:number>", attachments.attachment, name="mail_attachment"),
    path("<uuid:message_id>/replay", replay.replay, name="replay"),
]

_integrations = [
    path("", integrations.integration_list, name="integrations"),
    path("add/", integrations.catalogue, name="catalogue"),
    path("add/<slug:kind_name>/", integrations.add, name="add_integration"),
    path("<int:number>/", integrations.integration, name="integration"),
    path("<int:number>/status", integrations.set_status, name="integration_status"),
    *(
        path(f"<int:number>/{tab}/", rule_editor.editor, {"tab": tab}, name=f"integration_{tab}")
        for tab in ("mapping", "rules", "routing")  # of an integration
    ),
    path("<int:number>/<slug:tab>/backtest", rule_editor.stream_backtest, name="integration_backtest"),
    path("<int:number>/versions/", versions.versions, name="integration_versions"),
    path("<int:number>/paging-preset/", routing_presets.paging_preset, name="integration_paging_preset"),
    path("<int:number>/settings/", tabs.settings, name="integration_settings"),
    path("<int:number>/test/", test_tab.test, name="integration_test"),
    path("<int:number>/send-sample", test_tab.sample, name="send_sample"),
    path("<int:number>/test-mailbox", test_tab.mailbox, name="test_mailbox"),
    path("<int:number>/security/", tabs.security, name="integration_security"),
    path("<int:number>/guide/", tabs.guide, name="integration_guide"),
    path("<int:number>/delete/", delete_view(registry.INTEGRATIONS), name="integration_delete"),
]

_policies = [
    path("", policies.policy_list, name="policies"),
    path("new/", policies.edit, name="new_policy"),
    path("<int:number>/", policies.policy, name="policy"),
    path("<int:number>/edit/", policies.edit, name="edit_policy"),
    path("<int:number>/delete/", delete_view(registry.POLICIES), name="delete_policy"),
]

_groups = [
    path("", groups.group_list, name="groups"),
    path("new/", groups.edit, name="new_group"),
    path("<int:number>/", groups.group, name="group"),
    path("<int:number>/edit/", groups.edit, name="edit_group"),
    path("<int:number>/members/<int:user>/show-addresses", groups.show_addresses, name="show_addresses"),
    path("<int:number>/contacts/<int:contact>/test", groups.test_contact, name="test_group_contact"),
    path("<int:number>/delete/", delete_view(registry.GROUPS), name="delete_group"),
]

_users = [
    path("", users.user_list, name="users"),
    path("invite/", users.invite, name="invite"),
    path("invite/several/", invite_many.invite_many, name="invite_many"),
    path("<int:number>/", users.user, name="user"),
    path("<int:number>/invitation", users.send_invitation, name="send_invitation"),
    path("<int:number>/second-factor", users.reset_second_factor, name="reset_second_factor"),
    path("<int:number>/delete/", delete_view(registry.USERS), name="delete_user"),
]

_service_accounts = [
    path("", service_accounts.account_list, name="service_accounts"),
    path("new/", service_accounts.account, name="new_service_account"),
    path("<int:number>/", service_accounts.account, name="service_account"),
    path("<int:number>/tokens/new/", tokens.new_token, name="new_token_of"),
    path("<int:number>/delete/", delete_view(registry.SERVICE_ACCOUNTS), name="delete_service_account"),
]

_me = [
    path("", me.me, name="me"),
    path("pages/", me.my_pages, name="my_pages"),
    path("sign-ins/", browser_sessions.browser_sessions, name="browser_sessions"),
    path("identities/<int:number>/remove", links.remove_link, name="remove_identity_link"),
    path("identities/<int:number>/approve", links.approve_link, name="approve_identity_link"),
    path("sign-ins/end", browser_sessions.end_session, name="end_session"),
    path("sign-ins/end-all", browser_sessions.end_all_sessions, name="end_all_sessions"),
    path("contact-methods/new/", me.contact_method, name="new_contact_method"),
    path("contact-methods/<int:number>/", me.contact_method, name="contact_method"),
    path("contact-methods/<int:number>/delete", me.delete_contact_method, name="delete_contact_method"),
    path("contact-methods/<int:number>/test", contact_tests.send_test, name="send_test"),
    path("contact-methods/<int:number>/confirm/", verify_contact.confirm, name="confirm_contact_method"),
    path("contact-methods/<int:number>/move", me.move_contact_method, name="move_contact_method"),
    path("notification-rules/", notification_rules.notification_rules, name="notification_rules"),
    path("shifts/", my_shifts.my_shifts, name="my_shifts"),
    path("absences/new/", my_absences.absence, name="new_absence"),
    path("absences/<int:number>/", my_absences.absence, name="absence"),
    path("absences/<int:number>/delete/", my_absences.delete, name="delete_absence"),
    path("tests/<uuid:notification_id>/", contact_tests.test_result, name="test_result"),
    path("welcome/phone/", onboarding.phone, name="onboarding_phone"),
    path("welcome/push/", onboarding.push, name="onboarding_push"),
    path("welcome/test/", onboarding.send_test, name="onboarding_test"),
    path("welcome/test/<uuid:notification_id>/", onboarding.send_test, name="onboarding_test_result"),
    path("welcome/done/", onboarding.done, name="onboarding_done"),
    path("devices/", push.devices, name="devices"),
    path("devices/<int:number>/name", push.rename, name="rename_device"),
    path("devices/<int:number>/remove", push.remove, name="remove_device"),
    path("tokens/new/", tokens.new_token, name="new_token"),
    path("tokens/<int:number>/revoke", tokens.revoke_token, name="revoke_token"),
]

_oncall = [
    path("", board.board, name="on_call"),
    path("calendar/", month_view.calendar, name="month_calendar"),
    path("groups/<int:number>/", timeline.group_schedule, name="group_schedule"),
    path("groups/<int:number>/reassign/", reassign_shift.reassign, name="reassign"),
    path("override/", reassign_shift.choose_group, name="override_shift"),
    path("swaps/<int:number>/<slug:verb>", swaps.answer_swap, name="answer_swap"),
    path("overrides/<int:number>/", overrides.override, name="override"),
    path("overrides/<int:number>/delete/", overrides.delete, name="delete_override"),
    path("schedules/new/", schedules.edit, name="new_schedule"),
    path("schedules/new/preview", schedules.preview_schedule, name="preview_new_schedule"),
    path("schedules/<int:number>/", schedules.schedule, name="schedule"),
    path("schedules/<int:number>/edit/", schedules.edit, name="edit_schedule"),
    path("schedules/<int:number>/preview", schedules.preview_schedule, name="preview_schedule"),
    path("schedules/<int:number>/delete/", delete_view(registry.SCHEDULES), name="delete_schedule"),
    path("schedules/<int:number>/handovers/", handovers.schedule_handovers, name="schedule_handovers"),
    path("handovers/<int:number>/", handovers.handover, name="handover"),
    path("handovers/<int:number>/send", handovers.send, name="send_handover"),
    path("holidays/", holidays.holiday_list, name="holiday_calendars"),
    path("holidays/new/", holidays.edit, name="new_holiday_calendar"),
    path("holidays/preview", holidays.preview_holidays, name="preview_holiday_calendar"),
    path("holidays/<int:number>/", holidays.edit, name="holiday_calendar"),
    path("holidays/<int:number>/delete/", delete_view(registry.HOLIDAY_CALENDARS), name="delete_holiday_calendar"),
    path("support-hours/", support_hours.hours_list, name="support_hours"),
    path("support-hours/new/", support_hours.edit, name="new_support_hours"),
    path("support-hours/<int:number>/", support_hours.edit, name="edit_support_hours"),
    path("support-hours/<int:number>/delete/", delete_view(registry.SUPPORT_HOURS), name="delete_support_hours"),
    path("feeds/new", feeds.create, name="create_feed"),
    path("feeds/<int:number>/rotate", feeds.rotate, name="rotate_feed"),
    path("feeds/<int:number>/delete/", feeds.delete, name="delete_feed"),
]

_providers = [
    path("", providers.provider_list, name="providers"),
    path("test-environment", providers.test_environment, name="test_environment"),
    path("tocsin.vcf", providers.contact_card, name="contact_card"),
    path("mail-replies/", mail_replies.mail_replies, name="mail_replies"),
    path("add/<slug:kind_name>/", providers.edit, name="add_provider"),
    path("<int:number>/", providers.edit, name="provider"),
    path("<int:number>/test", providers.test, name="test_provider"),
    path("<int:number>/send-test", providers.send_test, name="send_provider_test"),
    path("<int:number>/delete/", delete_view(registry.PROVIDERS), name="delete_provider"),
]

_outbound = [
    path("", outbound.outbound_list, name="outbound_integrations"),
    path("add/<slug:kind_name>/", outbound.edit, name="add_outbound"),
    path("<int:number>/", outbound.outbound, name="outbound"),
    path("<int:number>/edit/", outbound.edit, name="edit_outbound"),
    path("<int:number>/test", outbound.test, name="verify_outbound"),
    path("<int:number>/refresh", outbound.refresh, name="refresh_outbound"),
    path("<int:number>/connect", outbound.connect, name="connect_outbound"),
    path("<int:number>/webhook", outbound.set_up_webhook, name="outbound_webhook"),
    path("<int:number>/sync/", outbound.sync, name="outbound_sync"),
    path("<int:number>/tickets/", outbound_tickets.tickets, name="outbound_tickets"),
    path("<int:number>/people/", outbound.people, name="outbound_people"),
    path("<int:number>/log/", outbound_calls.log, name="outbound_log"),
    path("<int:number>/log/send-again", outbound_calls.send_all_again, name="send_all_again"),
    path("<int:number>/calls/<int:call_id>/", outbound_calls.call, name="outbound_call"),
    path("<int:number>/calls/<int:call_id>/<slug:verb>", outbound_calls.act, name="outbound_call_act"),
    path("<int:number>/delete/", delete_view(registry.OUTBOUND_INTEGRATIONS), name="delete_outbound"),
]

_workflows = [
    path("", workflows.workflow_list, name="workflows"),
    path("new/", workflows.edit, name="new_workflow"),
    path("<int:number>/", workflows.workflow, name="workflow"),
    path("<int:number>/edit/", workflows.edit, name="edit_workflow"),
    path("<int:number>/move", workflows.move, name="move_workflow"),
    path("<int:number>/switch", workflows.switch, name="switch_workflow"),
    path("<int:number>/delete/", delete_view(registry.WORKFLOWS), name="delete_workflow"),
    path("<int:number>/log/", workflow_runs.log, name="workflow_log"),
    path("<int:number>/runs/<int:run_id>/<slug:verb>", workflow_runs.act, name="workflow_run_act"),
]

_clients = [
    path("", clients.open_alerts, name="client_alerts"),
    path("history/", clients.history, name="client_history"),
    path("<int:number>/", clients.alert, name="client_alert"),
]

_status_page = [
    path("", status_page.open_alerts, name="status_page"),
    path("history/", status_page.history, name="status_history"),
    path("reports/", status_page.reports, name="status_reports"),
    path("<int:number>/", status_page.alert, name="status_alert"),
]

_client_tables = [
    path("", client_tables.client_table_list, name="client_tables"),
    path("new/", client_tables.edit, name="new_client_table"),
    path("<int:number>/", client_tables.edit, name="edit_client_table"),
    path("<int:number>/delete/", delete_view(registry.CLIENT_TABLES), name="delete_client_table"),
]

_maintenance = [
    path("", maintenance.window_list, name="maintenance"),
    path("new/", maintenance.edit, name="new_maintenance_window"),
    path("<int:number>/", maintenance.edit, name="maintenance_window"),
    path("<int:number>/end", maintenance.end, name="end_maintenance_window"),
    path("<int:number>/delete/", delete_view(registry.MAINTENANCE_WINDOWS), name="delete_maintenance_window"),
]

_reports = [
    path("", reports.response_time_report, name="reports"),
    path("sla/", reports.sla_report, name="sla_report"),
    path("fairness/", fairness.report, name="fairness"),
    path("fairness.csv", fairness.report_csv, name="fairness_csv"),
    path("noise/", reports.noise_report, name="noise_report"),
    path("interruptions/", reports.interruption_report, name="interruption_report"),
    path("<slug:name>.csv", report_files.report_file, name="report_file"),
]

urlpatterns: list[URLPattern | URLResolver] = [
    path("", home.home, name="home"),
    path("alerts/", include(_alerts)),
    path("inbound-log/", include(_inbound_log)),
    path("integrations/", include(_integrations)),
    path("policies/", include(_policies)),
    path("client-tables/", include(_client_tables)),
    path("maintenance/", include(_maintenance)),
    path("delayed/<str:key>/<slug:verb>", delayed.act, name="act_on_delayed"),
    path("client/", include(_clients)),
    path("status/<str:token>/", include(_status_page)),
    path("groups/", include(_groups)),
    path("on-call/", include(_oncall)),
    path("users/", include(_users)),
    path("service-accounts/", include(_service_accounts)),
    path("me/", include(_me)),
    path("providers/", include(_providers)),
    path("outbound/", include(_outbound)),
    path("workflows/", include(_workflows)),
    path("wall/", wall.wall, name="wall"),
    path("reports/", include(_reports)),
    path("styleguide/", styleguide.styleguide, name="styleguide"),
    path("search/", search.search, name="search"),
    path("sandbox/", sandbox.sandbox, name="sandbox"),
    path("sandbox/<int:number>/mail", sandbox.mail, name="sandbox_mail"),
    path("sandbox/<int:number>/act", sandbox.act, name="sandbox_act"),
    path("sandbox/<int:number>/text", sandbox.text, name="sandbox_text"),
    path("sandbox/<int:number>/key", sandbox.key, name="sandbox_key"),
    path("audit-log/", audit.audit_log, name="audit_log"),
    *(
        path(f"audit-log/export.{suffix}", audit.export, {"suffix": suffix}, name=f"audit_log_{suffix}")
        for suffix in ("csv", "jsonl")
    ),
    path("system/", system.system, name="system"),
    path("system/doctor/", system.examination, name="doctor"),
    path("settings/", system.settings, name="settings"),
    path("settings/sign-in/", identity_providers.provider_list, name="identity_providers"),
    path("settings/sign-in/new/<slug:preset>/", identity_providers.edit, name="new_identity_provider"),
    path(
        "settings/sign-in/new/saml/<slug:preset>/",
        identity_providers.edit,
        {"kind": ProviderProtocol.SAML},
        name="new_saml_provider",
    ),
    path("settings/sign-in/<int:number>/", identity_providers.edit, name="identity_provider"),
    path("settings/sign-in/<int:number>/provisioning/", provisioning.provisioning, name="provisioning"),
    path(
        "settings/sign-in/<int:number>/delete/",
        delete_view(registry.IDENTITY_PROVIDERS),
        name="delete_identity_provider",
    ),
    path("import/", imports.imports, name="imports"),
    path("import/<int:number>/tocsin-import.yaml", imports.configuration, name="import_yaml"),
    path("import/<int:number>/report.txt", imports.report, name="import_report"),
    path("import/<int:number>/apply", imports.apply, name="apply_import"),
    path("import/<int:number>/discard", imports.discard, name="discard_import"),
    path("pause/", pause.pause, name="pause"),
    path("pause/end", pause.end, name="end_pause"),
    path("pause/banners", pause.banners, name="banners"),
    path("service-worker.js", pwa.service_worker, name="service_worker"),
    path("offline/", pwa.offline, name="offline"),
    path("push/act", push.act, name="push_act"),
    path("push/changed", push.changed, name="push_changed"),
    path("a/<str:token>", signed_link.signed_link, name="signed_link"),
    path("swap/<str:token>", swap_link.swap_link, name="swap_link"),
    path("calendar/<str:token>.ics", calendar.feed, name="calendar_feed"),
    path("setup/<str:token>", accounts.setup, name="setup"),
    path("welcome/<str:token>", accounts.welcome, name="welcome"),
    # Each user has exactly one account e-mail address, which is edited on the user's profile.
    path("account/email/", RedirectView.as_view(pattern_name="me")),
    path("account/", include("allauth.urls")),
    path("accounts/oidc/<slug:slug>/login/", single_sign_on.begin, name="oidc_login"),
    path("accounts/oidc/<slug:slug>/login/callback/", single_sign_on.callback, name="oidc_callback"),
    path(
        "accounts/oidc/<slug:slug>/backchannel-logout/",
        single_sign_on.backchannel_logout,
        name="oidc_backchannel_logout",
    ),
    path("accounts/saml/<slug:slug>/login/", saml.begin, name="saml_login"),
    path("accounts/saml/<slug:slug>/acs/", saml.acs, name="saml_acs"),
    path("accounts/saml/<slug:slug>/metadata/", saml.metadata, name="saml_metadata"),
    path("api/v1/", include("tocsin.api.urls")),
    path("scim/v2/", include("tocsin.api.scim.urls")),
    path("hooks/<str:provider>/<slug:endpoint>", hooks.hook, name="hook"),
]
