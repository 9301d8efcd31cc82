"""URL configuration of the web interface."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView

from tocsin.identity.models import ProviderProtocol
from tocsin.resources import registry
from tocsin.web import (
    audit,
    calls,
    clients,
    groups,
    home,
    hooks,
    identity,
    imports,
    inbound,
    maintenance,
    navigation,
    policies,
    providers,
    push,
    reports,
    sandbox,
    styleguide,
    system,
    users,
)
from tocsin.web import outbound as outbound_calls
from tocsin.web import workflows as workflow_runs
from tocsin.web.accounts import session_store, sso
from tocsin.web.accounts import views as accounts
from tocsin.web.alerts import detail, views
from tocsin.web.http import middleware
from tocsin.web.integrations import rule_editor, tabs
from tocsin.web.integrations import views as integrations
from tocsin.web.me import contact_methods, shifts
from tocsin.web.me import views as notification_rules
from tocsin.web.oncall import board, schedules, support_hours, swaps
from tocsin.web.ui.confirm_delete import delete_view

handler400 = "tocsin.web.http.middleware.bad_request"
handler403 = "tocsin.web.http.middleware.forbidden"
handler404 = "tocsin.web.http.middleware.not_found"
handler500 = "tocsin.web.http.middleware.failed"

_alerts = [
    path("", views.alert_list, name="alerts"),
    path("new/", views.new_alert, name="new_alert"),
    path("bulk", views.bulk, name="alerts_bulk"),
    path("preferences", views.list_preferences, name="alerts_preferences"),
    path("open-count", views.open_count, name="open_count"),
    path("<int:number>/", detail.alert_detail, name="alert"),
    path("<int:number>/why-not-notified/", detail.why_not_notified, name="why_not_notified"),
    path("<int:number>/buttons/<int:workflow_id>", workflow_runs.press, name="press_button"),
    path("<int:number>/ticket", outbound_calls.create_ticket, name="create_ticket"),
    path("<int:number>/<slug:kind>", detail.command, name="alert_command"),
]

_inbound_log = [
    path("", inbound.log, name="inbound_log"),
    path("replay", inbound.replay_many, name="replay_many"),
    path("<uuid:message_id>/", inbound.message, name="message"),
    path("<uuid:message_id>/attachments/<int:number>", inbound.attachment, name="mail_attachment"),
    path("<uuid:message_id>/replay", inbound.replay, name="replay"),
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
    path("<int:number>/versions/", tabs.versions, name="integration_versions"),
    path("<int:number>/paging-preset/", tabs.paging_preset, name="integration_paging_preset"),
    path("<int:number>/settings/", tabs.settings, name="integration_settings"),
    path("<int:number>/test/", tabs.test, name="integration_test"),
    path("<int:number>/send-sample", tabs.sample, name="send_sample"),
    path("<int:number>/test-mailbox", tabs.mailbox, name="test_mailbox"),
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
    path("invite/several/", users.invite_many, name="invite_many"),
    path("<int:number>/", users.user, name="user"),
    path("<int:number>/invitation", users.send_invitation, name="send_invitation"),
    path("<int:number>/second-factor", users.reset_second_factor, name="reset_second_factor"),
    path("<int:number>/replace/", users.replace_user, name="replace_user"),
    path("<int:number>/delete/", delete_view(registry.USERS), name="delete_user"),
]

_service_accounts = [
    path("", users.account_list, name="service_accounts"),
    path("new/", users.account, name="new_service_account"),
    path("<int:number>/", users.account, name="service_account"),
    path("<int:number>/tokens/new/", notification_rules.new_token, name="new_token_of"),
    path("<int:number>/delete/", delete_view(registry.SERVICE_ACCOUNTS), name="delete_service_account"),
]

_me = [
    path("", notification_rules.me, name="me"),
    path("pages/", notification_rules.my_pages, name="my_pages"),
    path("sign-ins/", session_store.browser_sessions, name="browser_sessions"),
    path("identities/<int:number>/remove", identity.remove_link, name="remove_identity_link"),
    path("identities/<int:number>/approve", identity.approve_link, name="approve_identity_link"),
    path("sign-ins/end", session_store.end_session, name="end_session"),
    path("sign-ins/end-all", session_store.end_all_sessions, name="end_all_sessions"),
    path("contact-methods/new/", notification_rules.contact_method, name="new_contact_method"),
    path("contact-methods/<int:number>/", notification_rules.contact_method, name="contact_method"),
    path("contact-methods/<int:number>/delete", notification_rules.delete_contact_method, name="delete_contact_method"),
    path("contact-methods/<int:number>/test", contact_methods.send_test, name="send_test"),
    path("contact-methods/<int:number>/ring", contact_methods.answer_ring, name="answer_ring"),
    path("contact-methods/<int:number>/confirm/", contact_methods.confirm, name="confirm_contact_method"),
    path("contact-methods/<int:number>/move", notification_rules.move_contact_method, name="move_contact_method"),
    path("notification-rules/", notification_rules.notification_rules, name="notification_rules"),
    path("shifts/", shifts.my_shifts, name="my_shifts"),
    path("absences/new/", shifts.absence, name="new_absence"),
    path("absences/<int:number>/", shifts.absence, name="absence"),
    path("absences/<int:number>/delete/", shifts.delete, name="delete_absence"),
    path("tests/<uuid:notification_id>/", contact_methods.test_result, name="test_result"),
    path("welcome/phone/", contact_methods.phone, name="onboarding_phone"),
    path("welcome/push/", contact_methods.push, name="onboarding_push"),
    path("welcome/test/", contact_methods.send_onboarding_test, name="onboarding_test"),
    path("welcome/test/<uuid:notification_id>/", contact_methods.send_onboarding_test, name="onboarding_test_result"),
    path("welcome/done/", contact_methods.done, name="onboarding_done"),
    path("devices/", push.devices, name="devices"),
    path("devices/<int:number>/name", push.rename, name="rename_device"),
    path("devices/<int:number>/remove", push.remove, name="remove_device"),
    path("tokens/new/", notification_rules.new_token, name="new_token"),
    path("assistant/", notification_rules.new_token, {"is_for_assistant": True}, name="new_assistant"),
    path("tokens/<int:number>/revoke", notification_rules.revoke_token, name="revoke_token"),
]

_oncall = [
    path("", board.board, name="on_call"),
    path("calendar/", board.calendar, name="calendar"),
    path("groups/<int:number>/", board.group_schedule, name="group_schedule"),
    path("groups/<int:number>/reassign/", swaps.reassign, name="reassign"),
    path("override/", swaps.choose_group, name="override_shift"),
    path("swaps/<int:number>/<slug:verb>", swaps.answer_swap, name="answer_swap"),
    path("overrides/<int:number>/", swaps.override, name="override"),
    path("overrides/<int:number>/delete/", swaps.delete, name="delete_override"),
    path("schedules/new/", schedules.edit, name="new_schedule"),
    path("schedules/new/preview", schedules.preview_schedule, name="preview_new_schedule"),
    path("schedules/<int:number>/", schedules.schedule, name="schedule"),
    path("schedules/<int:number>/edit/", schedules.edit, name="edit_schedule"),
    path("schedules/<int:number>/preview", schedules.preview_schedule, name="preview_schedule"),
    path("schedules/<int:number>/delete/", delete_view(registry.SCHEDULES), name="delete_schedule"),
    path("schedules/<int:number>/handovers/", schedules.schedule_handovers, name="schedule_handovers"),
    path("handovers/<int:number>/", schedules.handover, name="handover"),
    path("handovers/<int:number>/send", schedules.send, name="send_handover"),
    path("holidays/", support_hours.holiday_list, name="holiday_calendars"),
    path("holidays/new/", support_hours.edit_holidays, name="new_holiday_calendar"),
    path("holidays/preview", support_hours.preview_holidays, name="preview_holiday_calendar"),
    path("holidays/<int:number>/", support_hours.edit_holidays, name="holiday_calendar"),
    path("holidays/<int:number>/delete/", delete_view(registry.HOLIDAY_CALENDARS), name="delete_holiday_calendar"),
    path("support-hours/", support_hours.hours_list, name="support_hours"),
    path("support-hours/new/", support_hours.edit, name="new_support_hours"),
    path("support-hours/<int:number>/", support_hours.edit, name="edit_support_hours"),
    path("support-hours/<int:number>/delete/", delete_view(registry.SUPPORT_HOURS), name="delete_support_hours"),
    path("feeds/new", shifts.create_feed, name="create_feed"),
    path("feeds/<int:number>/rotate", shifts.rotate_feed, name="rotate_feed"),
    path("feeds/<int:number>/delete/", shifts.delete_feed, name="delete_feed"),
]

_providers = [
    path("", providers.provider_list, name="providers"),
    path("test-environment", providers.test_environment, name="test_environment"),
    path("tocsin.vcf", providers.contact_card, name="contact_card"),
    path("mail-replies/", providers.mail_replies, name="mail_replies"),
    path("add/<slug:kind_name>/", providers.edit, name="add_provider"),
    path("<int:number>/", providers.edit, name="provider"),
    path("<int:number>/test", providers.test, name="test_provider"),
    path("<int:number>/package", providers.package, name="provider_package"),
    path("<int:number>/send-test", providers.send_test, name="send_provider_test"),
    path("<int:number>/delete/", delete_view(registry.PROVIDERS), name="delete_provider"),
]

_outbound = [
    path("", outbound_calls.outbound_list, name="outbound_integrations"),
    path("add/<slug:kind_name>/", outbound_calls.edit, name="add_outbound"),
    path("<int:number>/", outbound_calls.outbound, name="outbound"),
    path("<int:number>/edit/", outbound_calls.edit, name="edit_outbound"),
    path("<int:number>/test", outbound_calls.test, name="verify_outbound"),
    path("<int:number>/refresh", outbound_calls.refresh, name="refresh_outbound"),
    path("<int:number>/connect", outbound_calls.connect, name="connect_outbound"),
    path("<int:number>/webhook", outbound_calls.set_up_webhook, name="outbound_webhook"),
    path("<int:number>/sync/", outbound_calls.sync, name="outbound_sync"),
    path("<int:number>/preview", outbound_calls.preview, name="outbound_preview"),
    path("<int:number>/tickets/", outbound_calls.tickets, name="outbound_tickets"),
    path("<int:number>/people/", outbound_calls.people, name="outbound_people"),
    path("<int:number>/log/", outbound_calls.log, name="outbound_log"),
    path("<int:number>/log/send-again", outbound_calls.send_all_again, name="send_all_again"),
    path("<int:number>/calls/<int:call_id>/", outbound_calls.call, name="outbound_call"),
    path("<int:number>/calls/<int:call_id>/<slug:verb>", outbound_calls.act, name="outbound_call_act"),
    path("<int:number>/delete/", delete_view(registry.OUTBOUND_INTEGRATIONS), name="delete_outbound_integration"),
]

_workflows = [
    path("", workflow_runs.workflow_list, name="workflows"),
    path("new/", workflow_runs.edit, name="new_workflow"),
    path("<int:number>/", workflow_runs.workflow, name="workflow"),
    path("<int:number>/edit/", workflow_runs.edit, name="edit_workflow"),
    path("<int:number>/move", workflow_runs.move, name="move_workflow"),
    path("<int:number>/switch", workflow_runs.switch, name="switch_workflow"),
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
    path("", clients.open_alerts_status_page, name="status_page"),
    path("history/", clients.history_status_page, name="status_history"),
    path("reports/", clients.reports, name="status_reports"),
    path("<int:number>/", clients.alert_status_page, name="status_alert"),
]

_client_tables = [
    path("", clients.client_table_list, name="client_tables"),
    path("new/", clients.edit_client_table, name="new_client_table"),
    path("<int:number>/", clients.edit_client_table, name="edit_client_table"),
    path("<int:number>/delete/", delete_view(registry.CLIENT_TABLES), name="delete_client_table"),
]

_calls = [
    path("", calls.call_list, name="calls"),
    path("<int:number>/", calls.call, name="call"),
    path("<int:number>/recording", calls.recording, name="call_recording"),
    path("routes/", calls.route_list, name="call_routes"),
    path("routes/new/", calls.edit_route, name="new_call_route"),
    path("routes/<int:number>/", calls.edit_route, name="call_route"),
    path("routes/<int:number>/test-call", calls.test_call, name="test_call"),
    path("routes/<int:number>/delete/", delete_view(registry.CALL_ROUTES), name="delete_call_route"),
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
    path("fairness/", reports.report, name="fairness"),
    path("fairness.csv", reports.report_csv, name="fairness_csv"),
    path("noise/", reports.noise_report, name="noise_report"),
    path("interruptions/", reports.interruption_report, name="interruption_report"),
    path("client/", reports.client_report, name="client_month"),
    path("client/mail/", reports.client_report_list, name="client_reports"),
    path("client/mail/new/", reports.edit_client_report, name="new_client_report"),
    path("client/mail/<int:number>/", reports.edit_client_report, name="client_report"),
    path("client/mail/<int:number>/delete/", delete_view(registry.CLIENT_REPORTS), name="delete_client_report"),
    path("<slug:name>.csv", reports.report_file, name="report_file"),
]

urlpatterns: list[URLPattern | URLResolver] = [
    path("", home.home, name="home"),
    path("alerts/", include(_alerts)),
    path("inbound-log/", include(_inbound_log)),
    path("integrations/", include(_integrations)),
    path("policies/", include(_policies)),
    path("calls/", include(_calls)),
    path("client-tables/", include(_client_tables)),
    path("maintenance/", include(_maintenance)),
    path("delayed/<str:key>/<slug:verb>", tabs.act, name="act_on_delayed"),
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
    path("wall/", home.wall, name="wall"),
    path("reports/", include(_reports)),
    path("styleguide/", styleguide.styleguide, name="styleguide"),
    path("search/", navigation.search, name="search"),
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
    path("settings/sign-in/", identity.provider_list, name="identity_providers"),
    path("settings/sign-in/new/<slug:preset>/", identity.edit, name="new_identity_provider"),
    path(
        "settings/sign-in/new/saml/<slug:preset>/",
        identity.edit,
        {"kind": ProviderProtocol.SAML},
        name="new_saml_provider",
    ),
    path("settings/sign-in/<int:number>/", identity.edit, name="identity_provider"),
    path("settings/sign-in/<int:number>/provisioning/", identity.provisioning, name="provisioning"),
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
    path("pause/", system.pause, name="pause"),
    path("pause/end", system.end, name="end_pause"),
    path("pause/banners", system.banners, name="banners"),
    path("service-worker.js", middleware.service_worker, name="service_worker"),
    path("offline/", middleware.offline, name="offline"),
    path("push/act", push.act, name="push_act"),
    path("push/changed", push.changed, name="push_changed"),
    path("a/<str:token>", detail.signed_link, name="signed_link"),
    path("swap/<str:token>", swaps.swap_link, name="swap_link"),
    path("calendar/<str:token>.ics", shifts.feed, name="calendar_feed"),
    path("setup/<str:token>", accounts.setup, name="setup"),
    path("welcome/<str:token>", accounts.welcome, name="welcome"),
    # Each user has exactly one account e-mail address, which is edited on the user's profile.
    path("account/email/", RedirectView.as_view(pattern_name="me")),
    path("account/", include("allauth.urls")),
    path("accounts/oidc/<slug:slug>/login/", sso.begin, name="oidc_login"),
    path("accounts/oidc/<slug:slug>/login/callback/", sso.callback, name="oidc_callback"),
    path("accounts/oidc/<slug:slug>/backchannel-logout/", sso.backchannel_logout, name="oidc_backchannel_logout"),
    path("accounts/saml/<slug:slug>/login/", sso.begin_saml, name="saml_login"),
    path("accounts/saml/<slug:slug>/acs/", sso.acs, name="saml_acs"),
    path("accounts/saml/<slug:slug>/metadata/", sso.metadata, name="saml_metadata"),
    path("api/v1/", include("tocsin.api.application")),
    path("scim/v2/", include("tocsin.api.scim")),
    path("", include("tocsin.api.mcp")),
    path("hooks/<str:provider>/<slug:endpoint>", hooks.hook, name="hook"),
]
