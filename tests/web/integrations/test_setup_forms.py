"""Forms of policies, groups, users, profile, providers and the pause."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.messages import WARNING, get_messages
from django.http import QueryDict
from django.test import Client
from django.utils import timezone

from tests.doubles.smtp import smtp_double
from tests.web.conftest import Company
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.models import AuditEntry
from tocsin.alerts.models import Alert
from tocsin.core import ids
from tocsin.core.config import crypto, settings_store
from tocsin.core.runtime import clock
from tocsin.escalation.commands import policy_spec, save_policy
from tocsin.escalation.models import Policy, PolicyVersion
from tocsin.inbound.models import ClientTable
from tocsin.notify.models import Notification, Pause, Provider, SandboxMessage
from tocsin.oncall.changes.commands import save_support_hours
from tocsin.people.models import ContactMethod, Group, GroupContact, User
from tocsin.resources.registry import GROUPS
from tocsin.web.groups import GroupForm

type BrowserOf = Callable[[User], Client]


def text_of(client: Client, path: str) -> str:
    return client.get(path).content.decode()


def policy_form(*steps: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """A filled-in form of a policy."""
    form: dict[str, Any] = {
        "name": "Nights", "default_priority": "high", "acknowledge.effect": "stop",
        "acknowledge.timeout": "30m", "repeat.times": "0",
        "steps-TOTAL_FORMS": len(steps), "steps-INITIAL_FORMS": 0, **settings,
        "page_assignee": "on",
    }  # fmt: skip
    for number, step in enumerate(steps):
        form |= {f"steps-{number}-{name}": value for name, value in step.items()}
    return form


def test_a_policy_is_made_from_its_steps_in_order(company: Company, browser_of: BrowserOf) -> None:
    form = policy_form(
        {"roles": ["primary"]},
        {"after": "5m", "roles": ["secondary"], "groups": [company.night.pk]},
        {"after": "10m", "users": [company.admin.pk]},
        {},
        **{"acknowledge.effect": "pause", "acknowledge.pause": "15m", "repeat.times": "2", "repeat.every": "10m"},
    )  # fmt: skip
    answer = browser_of(company.admin).post("/policies/new/", form, follow=True)
    text = answer.content.decode()
    assert answer.status_code == 200
    assert "pauses escalation for 15 minutes" in text
    definition = Policy.objects.get(name="Nights").current_version.definition
    assert [step["after"] for step in definition["steps"]] == ["0m", "5m", "10m"]
    assert definition["steps"][2]["notify"] == {"users": [f"#{company.admin.pk}"]}


def test_rows_of_steps_say_who_how_and_when(company: Company, browser_of: BrowserOf) -> None:
    form = policy_form(
        {"roles": ["primary"], "groups": [company.night.pk], "sequential": "5m"},
        {"after": "5m", "users": [company.admin.pk], "priority": ["critical"], "retry_times": "2"},
        {"after": "soon"},
        do="preview",
    )  # fmt: skip
    client = browser_of(company.admin)
    answer = client.post("/policies/new/", form, headers={"X-Part": "preview"})
    text = " ".join(re.sub("<[^>]*>", " ", answer.content.decode()).split())
    assert answer.status_code == 200
    assert text == (
        f"immediately Primary in {company.night.name} one at a time, every 5m "
        f"+5m {company.admin.display_name} 2 retries per person · Critical "
        "? No one yet by personal notification rules"
    )
    assert not Policy.objects.filter(name="Nights").exists()
    # One who may not change policies gets no such sentences, and no names of users.
    assert browser_of(company.observer).post("/policies/new/", form).status_code == 403


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps-0-after": "soon"}, "is not a duration"),
        ({"steps-0-roles": []}, "notifies no one"),
        ({"name": ""}, "This field is required."),
        ({"name": "standard"}, "already"),
        ({"acknowledge.effect": "pause"}, "how long an acknowledgement pauses"),
        ({"repeat.times": "3"}, "the interval between rounds"),
        ({"acknowledge.timeout": "x"}, "is not a duration"),
        ({"steps-0-tags": "production"}, "Use name = value"),
    ],
)
def test_what_is_wrong_with_a_policy_stands_beside_it(
    company: Company, browser_of: BrowserOf, change: dict[str, Any], message: str
) -> None:
    form = {**policy_form({"roles": ["primary"], "after": "0", "users": []}), "anyway": "False", **change}
    if change.get("steps-0-roles") == []:
        form["steps-0-groups"] = [company.desk.pk]
    answer = browser_of(company.admin).post("/policies/new/", form)
    assert answer.status_code == 422
    assert message.lower() in answer.content.decode().lower()
    assert answer.context["form"]["anyway"].is_hidden
    assert not Policy.objects.filter(name="Nights").exists()


def test_all_policy_errors_are_shown_at_once(company: Company, browser_of: BrowserOf) -> None:
    form = policy_form(
        {"groups": [company.desk.pk], "tags": "production"},
        {"roles": ["primary"], "after": "soon", "retry_times": "99"},
        {"after": "5m", "retry_times": "99"},
        **{"name": "", "acknowledge.effect": "pause", "acknowledge.timeout": "x", "repeat.times": "3"},
    )  # fmt: skip
    answer = browser_of(company.admin).post("/policies/new/", form)
    assert answer.status_code == 422
    main, steps = answer.context["form"], answer.context["steps"].forms
    assert set(main.errors) == {"name", "acknowledge.pause", "acknowledge.timeout", "repeat.every"}
    assert [set(step.errors) for step in steps] == [
        {"tags", "__all__"}, {"after", "retry_times"}, {"retry_times", "__all__"}
    ]  # fmt: skip
    assert all(len(body) == 1 for one in (main, *steps) for body in one.errors.values())


def test_default_settings_of_a_policy_are_not_listed(company: Company, browser_of: BrowserOf) -> None:
    browser = browser_of(company.admin)
    assert browser.get("/policies/new/").context["form"].changed_settings == ["Repeat N times: 1", "Repeat every: 10m"]
    defaults = {"name": "", "end_after": "5m", "acknowledge.people": "1", "end.then": "notify_leads"}
    form = policy_form({"roles": ["primary"]}, **defaults)
    assert browser.post("/policies/new/", form).context["form"].changed_settings == []


def test_policy_shows_currently_paged_users(company: Company, browser_of: BrowserOf) -> None:
    text = text_of(browser_of(company.observer), f"/policies/{company.policy.pk}/")
    assert text.index("Bob Brown") < text.index("Alice Andersson", text.index("Preview: alert created now"))
    assert "+5 minutes" in text


def test_a_policy_of_a_newer_version_is_listed_and_replaced(company: Company, browser_of: BrowserOf) -> None:
    newer = {"steps": [{"notify": {"bots": [1]}}]}
    PolicyVersion.objects.filter(policy=company.policy).update(definition=newer)
    client = browser_of(company.admin)
    assert "not valid in this version" in text_of(client, "/policies/")
    page = client.get(f"/policies/{company.policy.pk}/", follow=True)
    assert page.redirect_chain[0][0] == f"/policies/{company.policy.pk}/edit/"
    assert "This policy is not valid. Saving replaces it." in page.content.decode()


def test_a_manager_changes_policies_of_own_groups_only(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.manager)
    assert client.get(f"/policies/{company.policy.pk}/edit/").status_code == 200
    Policy.objects.filter(pk=company.policy.pk).update(group=company.night)
    assert client.get(f"/policies/{company.policy.pk}/edit/").status_code == 403
    assert client.post(f"/policies/{company.policy.pk}/delete/").status_code == 403
    form = policy_form({"roles": ["primary"]}, group=company.night.pk)
    assert client.post("/policies/new/", form).status_code == 422


def test_what_is_needed_is_not_deleted_and_says_by_what(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.admin)
    for path in (f"/policies/{company.policy.pk}/delete/", f"/groups/{company.desk.pk}/delete/"):
        assert "HaloITSM" in text_of(client, path)
        assert client.post(path).status_code == 409
    assert Policy.objects.filter(pk=company.policy.pk).exists()
    assert Group.objects.filter(pk=company.desk.pk).exists()
    assert client.post(f"/groups/{company.night.pk}/delete/").status_code == 302


def test_integration_deletion_shows_its_active_alert_count(
    company: Company, browser_of: BrowserOf, open_alert: Callable[..., int]
) -> None:
    Alert.objects.filter(pk=open_alert()).update(integration=company.halo)
    text = text_of(browser_of(company.admin), f"/integrations/{company.halo.pk}/delete/")
    assert "1 active alert" in text
    assert re.search(r'<button class="button danger" disabled>', text)


def test_contact_method_removal_lists_its_consequences(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.responder)
    methods = list(company.responder.contact_methods.all())
    *others, last = methods
    for other in others:
        client.post(f"/me/contact-methods/{other.pk}/delete")
    rules = {"quiet_hours": [{"days": ["mon"], "from": "22:00", "to": "07:00", "methods": [last.label]}]}
    User.objects.filter(pk=company.responder.pk).update(notification_rules=rules)
    text = text_of(client, f"/me/contact-methods/{last.pk}/delete")
    assert "This is the last contact method" in text
    assert "It is used in notification rules" in text


NO_ANNOUNCEMENTS = {"announcements-TOTAL_FORMS": 0, "announcements-INITIAL_FORMS": 0}


def test_a_group_is_called_in_the_order_of_its_numbers(company: Company, browser_of: BrowserOf) -> None:
    form = {
        "name": "Day", "description": "", "time_zone": "UTC",
        "members-TOTAL_FORMS": 3, "members-INITIAL_FORMS": 0,
        "members-0-user": company.admin.pk, "members-0-roles": ["primary"], "members-0-position": 2,
        "members-1-user": company.responder.pk, "members-1-roles": ["primary"], "members-1-position": 1,
        "contacts-TOTAL_FORMS": 1, "contacts-INITIAL_FORMS": 0, **NO_ANNOUNCEMENTS,
        "contacts-0-label": "List", "contacts-0-channel": "email", "contacts-0-address": "desk@example.org",
    }  # fmt: skip
    client = browser_of(company.admin)
    assert client.post("/groups/new/", form).status_code == 302
    group = Group.objects.get(name="Day")
    assert [m.user.username for m in group.memberships.select_related("user")] == ["bob", "alice"]
    assert group.contacts.get().address == "desk@example.org"
    refused = client.post("/groups/new/", {**form, "name": "Other", "contacts-0-address": "no address"})
    assert refused.status_code == 422
    assert "is not an email address" in refused.content.decode()


def test_group_form_keeps_what_it_does_not_show(company: Company, browser_of: BrowserOf) -> None:
    member = {"user": "bob", "roles": ["primary"], "later": 1}
    stored = {"name": "Day", "time_zone": "UTC", "later": 2, "members": [member]}
    posted = QueryDict(mutable=True)
    posted.update(
        {
            "name": "Night", "time_zone": "UTC", "members-TOTAL_FORMS": 1, "members-INITIAL_FORMS": 1,
            "members-0-user": company.responder.pk, "members-0-roles": "secondary",
            "contacts-TOTAL_FORMS": 0, "contacts-INITIAL_FORMS": 0, **NO_ANNOUNCEMENTS,
        }
    )  # fmt: skip
    form = GroupForm(posted, spec_type=GROUPS.spec_type, current=stored)
    assert form.is_valid()
    spec = form.spec()
    assert (spec["name"], spec["later"]) == ("Night", 2)
    assert spec["members"] == [{"user": "bob", "role": "", "roles": ["secondary"], "later": 1}]
    assert browser_of(company.manager).get("/groups/new/").status_code == 403


def test_saving_a_group_without_members_warns(company: Company, browser_of: BrowserOf) -> None:
    form = {
        "name": "Empty", "description": "", "time_zone": "UTC",
        "members-TOTAL_FORMS": 0, "members-INITIAL_FORMS": 0, "contacts-TOTAL_FORMS": 0, "contacts-INITIAL_FORMS": 0,
        **NO_ANNOUNCEMENTS,
    }  # fmt: skip
    saved = browser_of(company.admin).post("/groups/new/", form)
    assert Group.objects.get(name="Empty").memberships.count() == 0
    assert [message.level for message in get_messages(saved.wsgi_request)] == [WARNING]


def test_addresses_are_masked_without_permission(company: Company, browser_of: BrowserOf) -> None:
    company.desk.contacts.create(label="Boss", channel="sms", address="+41791234567")
    path = f"/groups/{company.desk.pk}/"
    assert "+41791234567" in text_of(browser_of(company.responder), path)
    observer = text_of(browser_of(company.observer), path)
    assert "+41791234567" not in observer
    assert "•••" in observer


def test_contact_method_is_added_tested_and_removed(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.responder)
    form = {"label": "Phone", "channel": "sms", "address": "+41 79 000 00 01", "wait": "3m", "enabled": "on"}
    client.post("/me/contact-methods/new/", form)
    method = ContactMethod.objects.get(label="Phone")
    assert (method.user, method.address, method.wait) == (company.responder, "+41790000001", timedelta(minutes=3))
    # What people enter themselves is confirmed first, by a code that was sent at once.
    assert (
        "Verify this address first"
        in client.post(f"/me/contact-methods/{method.pk}/test", follow=True).content.decode()
    )
    sent = Notification.objects.get(purpose="test")
    code = crypto.decrypt(sent.data["sealed"])
    assert "pending verification" in text_of(client, "/me/")
    assert client.post(f"/me/contact-methods/{method.pk}/confirm/", {"code": "x"}).status_code == 422
    assert (
        "verified."
        in client.post(f"/me/contact-methods/{method.pk}/confirm/", {"code": code}, follow=True).content.decode()
    )
    assert "verified." in text_of(client, f"/me/contact-methods/{method.pk}/confirm/")
    answer = client.post(f"/me/contact-methods/{method.pk}/test", follow=True)
    assert "Sending to +41" in answer.content.decode()
    assert Notification.objects.filter(purpose="test", user=company.responder).count() == 2
    bad = client.post("/me/contact-methods/new/", {**form, "label": "Other", "address": "call me"})
    assert bad.status_code == 422
    assert 'value="call me"' in bad.content.decode()
    stranger = browser_of(company.observer)
    assert stranger.post(f"/me/contact-methods/{method.pk}/delete").status_code == 404
    assert stranger.post(f"/me/contact-methods/{method.pk}/test").status_code == 404
    assert stranger.get(f"/me/contact-methods/{method.pk}/confirm/").status_code == 404
    query = text_of(client, f"/me/contact-methods/{method.pk}/delete")
    assert "Delete Phone?" in query
    assert ContactMethod.objects.filter(pk=method.pk).exists()
    client.post(f"/me/contact-methods/{method.pk}/delete")
    assert not ContactMethod.objects.filter(pk=method.pk).exists()


def test_how_i_like_the_pages_is_kept(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.observer)
    client.post("/me/", {"name": "Olga O.", "time_zone": "Asia/Tokyo", "theme": "dark"})
    company.observer.refresh_from_db()
    assert (company.observer.time_zone, company.observer.theme) == ("Asia/Tokyo", "dark")
    assert company.observer.role == "observer"
    text = text_of(client, "/me/")
    assert 'data-bs-theme="dark"' in text
    assert client.post("/me/", {"name": "O", "time_zone": "Mars/Base"}).status_code == 422


def test_mail_server_is_configured_tested_and_its_password_hidden(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.admin)
    with smtp_double() as server:
        form = {
            "name": "Mail", "host": "127.0.0.1", "port": server.port, "security": "none", "username": "",
            "password": "open sesame", "sender": "tocsin@example.org", "order": 1, "enabled": "on",
        }  # fmt: skip
        answer = client.post("/providers/add/smtp/", form, follow=True)
        provider = Provider.objects.get()
        # A server in one's own network, which an administrator may allow at once: no variable, no restart.
        refused = client.post(f"/providers/{provider.pk}/test", follow=True).content.decode()
        assert "select “Server in a private network”" in refused
        client.post(f"/providers/{provider.pk}/", {**form, "password": "", "allow_private": "on"})
        assert 'class="notice ok"' in client.post(f"/providers/{provider.pk}/test", follow=True).content.decode()
    changed = AuditEntry.objects.filter(object_type="provider").latest("pk")
    assert changed.after["allow_private"] is True
    assert browser_of(company.manager).post("/providers/add/smtp/", form).status_code == 403
    assert "open sesame" not in answer.content.decode()
    assert "open sesame" not in provider.secrets
    assert "Saved. Leave empty to keep the current value." in answer.content.decode()
    tested = client.post(f"/providers/{provider.pk}/test", follow=True).content.decode()
    assert 'class="notice now"' in tested, "the server has ended"
    assert client.post("/providers/add/smtp/", {**form, "host": ""}).status_code == 422
    assert client.post(f"/providers/{provider.pk}/delete/").status_code == 302


def test_pause_requires_reason_and_end_and_every_page_shows_it(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.admin)
    until = timezone.localtime(clock.now() + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M")
    assert client.post("/pause/", {"reason": "", "until": until}).status_code == 422
    assert client.post("/pause/", {"reason": "Drill", "until": "2020-01-01T00:00"}).status_code == 422
    client.post("/pause/", {"reason": "Fire drill", "until": until})
    assert "All paging is paused by Alice Andersson: Fire drill." in text_of(browser_of(company.observer), "/alerts/")
    assert browser_of(company.manager).post("/pause/end").status_code == 403
    client.post("/pause/end")
    assert Pause.objects.get().ended_at is not None
    assert "All paging is paused by" not in text_of(client, "/alerts/")


def test_settings_are_saved_and_on_record(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.admin)
    form = {
        "organisation_name": "Acme", "time_zone": "Europe/Zurich", "message_retention_days": 30,
        "message_size_cap_mb": 500, "delivery_retention_days": 100, "audit_retention_days": 200,
        "session_lifetime": "12h", "assistant_writes_per_hour": 20,
    }  # fmt: skip
    client.post("/settings/", form)
    assert settings_store.get("message_retention_days") == 30
    assert settings_store.get("bundle_pages") is False
    log = text_of(client, "/audit-log/?show=changes")
    assert "message_retention_days" in log
    assert AuditEntry.objects.latest("pk").actor == company.admin
    assert client.post("/settings/", {**form, "message_retention_days": 0}).status_code == 422


def test_the_sandbox_shows_ones_own_messages_and_all_to_administrators(company: Company, browser_of: BrowserOf) -> None:
    for user, subject in ((company.responder, "For Bob"), (company.observer, "For Olga")):
        SandboxMessage.objects.create(
            delivery=ids.uuid7(), user=user, channel="email", address=user.email, at=clock.now(),
            content={"subject": subject, "text": "<script>x</script>", "buttons": [
                {"label": "Evil", "url": "https://evil.example.org/"}]},
        )  # fmt: skip
    own = text_of(browser_of(company.observer), "/sandbox/")
    assert "For Olga" in own
    assert "For Bob" not in own
    every = text_of(browser_of(company.admin), "/sandbox/")
    assert "For Bob" in every
    assert "evil.example.org" not in every
    assert "<script>x" not in every


def test_everything_a_policy_can_do_survives_its_form(company: Company, browser_of: BrowserOf) -> None:
    by = {"actor": COMMAND_LINE, "now": clock.now()}
    save_policy({"name": "After", "steps": [{"notify": {"users": ["bob"]}}]}, **by)
    between = {"days": ["mon"], "from": "08:00", "to": "24:00", "time_zone": "Europe/Zurich", "outside": True}
    spec = {
        "name": "All of it", "default_priority": "low", "groups_sequential": "15m", "end_after": "7m",
        "page_assignee": False,
        "acknowledge": {"effect": "continue", "timeout": "20m", "people": 2},
        "end": {"then": "hand_over", "policy": "After"},
        "steps": [
            {
                "notify": {"roles": ["primary"], "everybody": True, "assignee": True}, "after": "0m", "name": "first",
                "sequential": "5m", "retries": {"times": 2, "every": "3m"}, "only_until_acknowledged": True,
                "methods": [{"channel": "email"}, {"label": "Email-Official", "wait": "2m",
                                              "repeat": {"times": 1, "every": "4m"}}],
                "when": {"priority": ["high", "low"], "between": between, "tags": {"environment": "production"}},
                "if_empty": "wait",
            }
        ],
    }  # fmt: skip
    policy = save_policy(spec, **by)
    client = browser_of(company.admin)
    page = client.get(f"/policies/{policy.pk}/edit/")
    changed = page.context["form"].changed_settings
    assert "Acknowledgement timeout: 20m" in changed
    assert "Page the assignee: no" in changed
    assert "Hand over to: After" in changed
    assert client.post(f"/policies/{policy.pk}/edit/", filled(page)).status_code == 302
    assert policy_spec(Policy.objects.get(pk=policy.pk)) == policy_spec(policy)
    assert policy.versions.count() == 1


def filled(answer: Any) -> dict[str, Any]:
    """What a browser would send of a policy's form, as it was drawn."""
    steps = answer.context["steps"]
    sets = [steps, *(step.methods for step in steps.forms)]
    parts = [answer.context["form"], *steps.forms, *(row for step in steps.forms for row in step.methods.forms)]
    parts += [one.management_form for one in sets]
    fields = [field for part in parts for field in part]
    results = {field.html_name: drawn(field.value()) for field in fields}
    return {name: value for name, value in results.items() if value is not None and value is not False and value != []}


def drawn(value: Any) -> Any:
    return value.pk if isinstance(value, Policy | Group) else value


def test_notification_rules_are_editable_rows_with_a_summary(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.admin)
    label = company.admin.contact_methods.get().label
    counts = {f"{name}-TOTAL_FORMS": "0" for name in ("high", "medium")} | {"low-TOTAL_FORMS": "1"}
    form = {
        **counts, **{f"{name}-INITIAL_FORMS": "0" for name in ("critical", "high", "medium", "low", "quiet")},
        "critical-TOTAL_FORMS": "2", "critical-0-method": label, "critical-0-wait": "2m", "critical-0-times": "1",
        "critical-0-every": "5m", "critical-1-method": "",
        "quiet-TOTAL_FORMS": "1", "quiet-0-begins": "22:00", "quiet-0-ends": "07:00", "quiet-0-let_through": "high",
        "most_per_hour": "9",
    }  # fmt: skip
    assert client.post("/me/notification-rules/", form).status_code == 302
    assert User.objects.get(pk=company.admin.pk).notification_rules == {
        "by_priority": {"critical": [{"method": label, "wait": "2m", "repeat": {"times": 1, "every": "5m"}}]},
        "quiet_hours": [{"from": "22:00", "to": "07:00"}],
        "most_per_hour": 9,
    }
    assert "<strong>2:00</strong>" in text_of(client, "/me/")
    whole_day = {"notification_rules": {"quiet_hours": [{"from": "00:00", "to": "24:00"}]}}
    User.objects.filter(pk=company.admin.pk).update(**whole_day)
    quiet = client.get("/me/notification-rules/").context["quiet"].forms[0]
    assert quiet["ends"].value() == "00:00", "a browser's picker knows no 24:00, and would lose it"
    wrong = client.post("/me/notification-rules/", {**form, "quiet-0-begins": "late", "critical-0-wait": "soon"})
    assert wrong.status_code == 422
    assert "late" in wrong.content.decode()
    assert "is not a duration" in wrong.content.decode()
    german = client.post(
        "/me/notification-rules/", {**form, "critical-0-wait": "soon"}, headers={"Accept-Language": "de"}
    )
    row = german.content.decode().partition('name="critical-0-wait"')[2].partition("</fieldset>")[0]
    assert "ist keine Dauer. Schreiben Sie" in row, "the problem stands beside its row, in the reader's language"


def test_client_table_is_pasted_as_csv_with_errors_shown(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.admin)
    rows = f"client,group,policy\nAcme,{company.desk.name},{company.policy.name}\n"
    assert client.post("/client-tables/new/", {"name": "Customers", "clients": rows}).status_code == 302
    assert "1 client" in text_of(client, "/client-tables/")
    table = ClientTable.objects.get()
    # What a spreadsheet would take for a formula is text there, and comes back as it was.
    formula = f"client,group,policy\n'=1+1,{company.desk.name},\n"
    assert client.post(f"/client-tables/{table.pk}/", {"name": "Customers", "clients": formula}).status_code == 302
    assert ClientTable.objects.get().clients[0]["client"] == "=1+1"
    assert "&#x27;=1+1," in text_of(client, f"/client-tables/{table.pk}/")
    wrong = client.post(f"/client-tables/{table.pk}/", {"name": "Customers", "clients": "Acme,Nobody's"})
    assert wrong.status_code == 422
    assert "Acme: No group named" in wrong.content.decode()
    assert client.post(f"/client-tables/{table.pk}/delete/").status_code == 302
    assert browser_of(company.observer).get("/client-tables/new/").status_code == 403


def test_group_contact_is_tested_by_those_who_may_change_it(company: Company, browser_of: BrowserOf) -> None:
    desk = Group.objects.get(name="Service Desk")
    contact = GroupContact.objects.create(group=desk, label="Room", channel="chat", address="slack:C012AB3CD")
    path = f"/groups/{desk.pk}/contacts/{contact.pk}/test"
    assert browser_of(company.responder).post(path).status_code == 403
    assert Notification.objects.filter(purpose="test").count() == 0
    client = browser_of(company.admin)
    assert "Send test" in client.get(f"/groups/{desk.pk}/").content.decode()
    shown = client.post(path, follow=True).content.decode()
    assert "Room" in shown
    sent = Notification.objects.get(purpose="test")
    assert (sent.channel, sent.address, sent.user) == ("chat", "slack:C012AB3CD", company.admin)
    assert client.post(f"/groups/{desk.pk}/contacts/999999/test").status_code == 404


def test_browser_time_zone_is_offered_only_for_new_objects(company: Company, browser_of: BrowserOf) -> None:
    """A stored UTC that the page showed as another zone would become that zone with the next change of anything."""
    anna = browser_of(company.admin)
    night = {"between": {"from": "22:00", "to": "06:00", "time_zone": "UTC"}}
    spec = {"name": "By night", "steps": [{"notify": {"roles": ["primary"]}, "when": night}]}
    policy = save_policy(spec, actor=COMMAND_LINE, now=clock.now())
    for path in ("/settings/", "/me/", f"/users/{company.admin.pk}/", f"/groups/{company.night.pk}/edit/"):
        text = text_of(anna, path)
        assert '<option value="UTC" selected' in text, path
        assert "data-zones" not in text, path
    selects = re.findall(r"<select[^>]*>", text_of(anna, f"/policies/{policy.pk}/edit/"))
    first, empty = [one for one in selects if '-zone"' in one]
    assert "data-zones" not in first
    assert "data-zones" in empty
    for path in ("/users/invite/", "/groups/new/", "/policies/new/", "/on-call/schedules/new/", "/maintenance/new/"):
        assert "data-zones" in text_of(anna, path), path
    refused = anna.post("/groups/new/", {"name": "", "time_zone": "UTC"})
    assert refused.status_code == 422
    assert "data-zones" not in refused.content.decode()


def test_endless_policy_warning_uses_the_readers_language(company: Company, browser_of: BrowserOf) -> None:
    spec = {
        "name": "On and on",
        "steps": [{"notify": {"roles": ["primary"]}}],
        "end": {"then": "keep_last_step", "every": "15m"},
    }
    policy = save_policy(spec, actor=COMMAND_LINE, now=clock.now())
    path = f"/policies/{policy.pk}/?for=group-{company.desk.pk}"
    text = browser_of(company.admin).get(path, headers={"Accept-Language": "de"}).content.decode()
    assert "until someone responds" not in text
    assert "bis jemand reagiert" in text


def test_search_finds_configured_objects_and_links_those_that_open(company: Company, browser_of: BrowserOf) -> None:
    def hours(name: str, group: str) -> int:
        windows = [{"days": ["mon"], "from": "08:00", "to": "18:00"}]
        spec = {"name": name, "group": group, "windows": windows}
        return save_support_hours(spec, actor=COMMAND_LINE, now=company.now).pk

    own, foreign = hours("Halo desk", company.desk.name), hours("Halo night", company.night.name)
    text = text_of(browser_of(company.manager), "/search/?q=halo")
    assert f'href="/integrations/{company.halo.pk}/"' in text
    assert f'href="/on-call/support-hours/{own}/"' in text
    assert "Halo night" in text
    assert f'href="/on-call/support-hours/{foreign}/"' not in text
