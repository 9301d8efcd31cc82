"""`apply` and `export`: invalid configuration names its line and changes nothing; applying twice changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.people import make_user
from tocsin.access.models import AuditEntry
from tocsin.configure import config_files, plan, yaml_loader
from tocsin.configure.plan import ConfigPlan, PlanAction
from tocsin.core.config import environment, settings_store
from tocsin.core.db import database
from tocsin.core.errors import Rejected, RejectedAll
from tocsin.core.models import ConfigVersion
from tocsin.escalation.models import Policy, PolicyVersion
from tocsin.inbound.admin import commands as integrations
from tocsin.inbound.admin import secrets
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.models import Integration, IntegrationVersion
from tocsin.oncall import loader
from tocsin.outbound.models import OutboundIntegration
from tocsin.people.models import Group, User
from tocsin.workflows.models import Workflow

pytestmark = pytest.mark.usefixtures("database")

EXAMPLE = Path(__file__).parents[3] / "examples" / "tocsin.yaml"

TEAM = """\
users:
  - {username: alice, email: alice@example.org}
groups:
  - name: Desk
    members: [{user: alice, roles: [primary]}]
escalation_policies:
  - name: Standard
    steps: [{notify: {roles: [primary]}}]
"""
INTEGRATION = """\
integrations:
  - name: HaloITSM
    kind: haloitsm
    escalation_policy: Standard
    recipients: {groups: [Desk]}
"""


def collect(*texts: str, folder: Path = Path()) -> config_files.ConfigFiles:
    return config_files.collect(
        [yaml_loader.parse(text, f"{number or ''}t.yaml", folder) for number, text in enumerate(texts)]
    )


def apply(now: datetime, *texts: str, prune: bool = False, folder: Path = Path()) -> ConfigPlan:
    return plan.apply(collect(*texts, folder=folder), prune=prune, now=now)


def test_secret_address_is_exported_in_clear_only_with_secrets(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "gotify://push.example.org/AbcdefghijKLMNO"
    monkeypatch.setenv("GOTIFY", secret)
    text = TEAM.replace(
        "email: alice@example.org}",
        "email: alice@example.org, contact_methods: [{label: Gotify, channel: chat, address: {env: GOTIFY}}]}",
    )
    apply(now, text)
    assert "unchanged user alice" in plan_lines(apply(now, text))
    written = plan.write(plan.export_configuration(with_secrets=False))
    assert secret not in written
    assert "unchanged user alice" in plan_lines(apply(now, written)), "what is exported may be applied again"
    assert secret in plan.write(plan.export_configuration(with_secrets=True))


def plan_lines(lines: ConfigPlan) -> list[str]:
    return [str(line) for line in lines.lines]


def refusals(now: datetime, *texts: str, **options: Any) -> list[str]:
    with pytest.raises(Rejected) as raised:
        apply(now, *texts, **options)
    error = raised.value
    return [problem.detail for problem in (error.problems if isinstance(error, RejectedAll) else [error])]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", "t.yaml:1: a configuration begins with keys"),
        ("users: alice", "t.yaml:1: users is a list"),
        ("users:\n  - alice", "t.yaml:2: each of users is an object"),
        ("users:\n  - email: a@b.example", "t.yaml:2: username: is required"),
        ("users:\n  - username: 7", "t.yaml:2: username: must be text; put it in quotes"),
        ("usres: []", 't.yaml:1: unknown key "usres"; did you mean "users"?'),
        ("\nworkflows:\n  - name: x\n    trigger: whenever", "t.yaml:4: workflow x: trigger.on"),
        ("maintenance_windows: [{name: x}]", "t.yaml:1: maintenance window x: starts: is required"),
        ("holiday_calendars: [{name: x}]", "t.yaml:1: holiday calendar x: country"),
        ("settings: 7", "t.yaml:1: settings are named values"),
        ("settings:\n  bundle_pages: true\n  retention: 7", "t.yaml:3: settings: retention: unknown key"),
        (
            "settings:\n  message_retention_days: 0",
            "t.yaml:2: settings: message_retention_days: must be a whole number",
        ),
        (
            "users:\n  - username: alice\n    email: a@b.example\n    contact_methods:\n"
            "      - label: SMS\n        channel: sms\n        address: '12'",
            "t.yaml:7: user alice: contact_methods[0].address: ",
        ),
        (
            "users:\n  - username: alice\n    email: a@b.example\n    roel: admin",
            't.yaml:4: user alice: roel: unknown key; did you mean "role"?',
        ),
        (
            "users:\n  - {username: alice, email: a@b.example}\n  - {username: ALICE, email: b@b.example}",
            "t.yaml:3: there are two of user ALICE; the other is at t.yaml:2",
        ),
        (
            "groups:\n  - name: Desk\n    members:\n      - {user: bob}",
            "t.yaml:4: group Desk: members[0].user: no user named",
        ),
        ("users:\n  - {username: a, email: a@b.example, was: 7}", "t.yaml:2: was: must be the name"),
        (
            "support_hours:\n  - name: Office\n    windows:\n"
            "      - days: [mon]\n        from: 08:00\n        to: late",
            't.yaml:6: support hours Office: windows[0].to: "late" is not a time of day',
        ),
        (
            "schedules:\n  - name: S\n    group: Desk\n    shifts:\n"
            "      - name: W\n        rotate: {at: '09:00', users: [a]}",
            "t.yaml:5: schedule S: shifts[0].start: is required",
        ),
        (
            "escalation_policies:\n  - name: P\n    steps:\n      - notify: {roles: [primary]}\n        after: soon",
            't.yaml:5: escalation policy P: steps[0].after: "soon" is not a duration',
        ),
        (
            "escalation_policies:\n  - name: P\n    steps:\n      - notify: {roles: [boss]}",
            "t.yaml:4: escalation policy P: steps[0].notify.roles[0]: ",
        ),
    ],
)
def test_bad_configuration_is_refused_with_its_line_and_changes_nothing(
    now: datetime, text: str, expected: str
) -> None:
    errors = refusals(now, text)
    assert any(sentence.startswith(expected) for sentence in errors), errors
    assert not User.objects.exists()
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            ["rules:", "  open: {field: source_status, operator: is, value: New}"],
            ":7: integration HaloITSM: rules.open",
        ),
        (
            ["rules:", "  open:", "    field: source_status", "    operator: matches", '    value: "("'],
            ":10: integration HaloITSM: rules.open.value: ",
        ),
        (["mapping:", "  client: [a, ^^^]"], ":7: integration HaloITSM: mapping.client[1]: "),
        (["settings:", "  halo_adress: x"], ":7: integration HaloITSM: settings.halo_adress: "),
        (
            ["routes:", "  - priority: low", "  - during: {not: Night}"],
            ":8: integration HaloITSM: routes[1].during.not: there are no support hours",
        ),
        (["routes:", "  - {colour: red}"], ":7: integration HaloITSM: routes[0].colour: unknown key"),
        (["token: short"], ":6: integration HaloITSM: token: must be 32 to 200"),
        (["token: {env: TOCSIN_NOT_THERE}"], ":6: the environment variable TOCSIN_NOT_THERE is not set"),
        (["token: {file: none.txt}"], ":6: the file none.txt cannot be read"),
        (["outbound: Halo"], ':6: integration HaloITSM: outbound: unknown outbound integration "Halo"'),
        (["colour: red"], ":6: integration HaloITSM: colour: unknown key"),
    ],
)
def test_invalid_integration_path_operator_or_key_names_its_line(
    now: datetime, lines: list[str], expected: str
) -> None:
    text = INTEGRATION + "".join(f"    {line}\n" for line in lines)
    errors = refusals(now, TEAM, text)
    assert any(sentence.startswith(f"1t.yaml{expected}") for sentence in errors), errors
    assert not User.objects.exists(), "all or nothing"


def test_all_problems_of_all_users_are_reported_at_once(now: datetime) -> None:
    text = "users:\n  - {username: a, email: x, role: boss}\n  - {username: b/c, email: b@b.example}\n"
    assert [sentence.split(": ")[2] for sentence in refusals(now, text)] == ["email", "role", "username"]


EVERY_KIND = """\
settings:
  bundle_pages: 7
users:
  - {username: alice, email: x}
  - {username: bob, email: bob@acme.example, out_of_office: [{from: 2027-12-24T00:00, to: never}]}
groups:
  - {name: Desk, members: [{user: alice}, {user: bob}]}
  - {name: Net, members: [{user: bob}, {user: nobody}]}
holiday_calendars: [{name: Bern}]
schedules: [{name: S, group: Desk, shifts: []}]
support_hours: [{name: Office, time_zone: Mars/Base, windows: [{days: [mon], from: '08:00', to: '18:00'}]}]
escalation_policies:
  - {name: P, steps: [{notify: {roles: [boss]}}]}
  - {name: Q, steps: [{notify: {roles: [primary]}, when: {during: Office}}]}
client_tables: [{name: T, colour: red}]
outbound_integrations:
  - {name: Halo, kind: haloitsm, base_url: https://x.haloitsm.com, client_id: x}
  - {name: Jira, kind: http, url: https://x, auth: bearer, token: {env: TOCSIN_NOT_THERE}, hmac_secret: {file: none}}
integrations:
  - {name: A, kind: haloitsm, escalation_policy: Q, recipients: {groups: [Desk]}, outbound: Halo}
  - {name: B, kind: api, escalation_policy: P, recipients: {groups: [Net]}, colour: red}
maintenance_windows: [{name: M, integrations: [A], starts: '2027-01-01 22:00', ends: soon}]
workflows:
  - {name: V, trigger: {on: opened}, actions: [{do: call, outbound: Jira}, {do: dance}]}
  - {name: W, trigger: {on: opened}, actions: [{do: call, outbound: Nowhere}]}
  - {name: U, trigger: {on: opened}, actions: [{do: notify, groups: [Desk], contacts: true, owner: true}]}
providers: [{name: X, kind: telex}]
usres: [{username: carol}]
"""


def test_error_that_quotes_a_rejected_object_is_reported(now: datetime) -> None:
    text = """
users: [{username: mars, email: nowhere}]
schedules: [{name: S, time_zone: Mars, shifts: []}]
"""
    places = [sentence.split(": ")[1:3] for sentence in refusals(now, text)]
    assert ["schedule S", "time_zone"] in places


def test_all_root_errors_are_reported_without_their_consequences(now: datetime) -> None:
    follows = "groups: [{name: Ops, members: [{user: carol}]}]"
    errors = refusals(now, EVERY_KIND, follows)
    assert [sentence.split(": ")[:3] for sentence in errors] == [
        ["t.yaml:18", "the environment variable TOCSIN_NOT_THERE is not set."],
        ["t.yaml:18", "the file none cannot be read", "No such file or directory."],
        ["t.yaml:28", 'unknown key "usres"; did you mean "users"?'],
        ["t.yaml:2", "settings", "bundle_pages"],
        ["t.yaml:4", "user alice", "email"],
        ["t.yaml:8", "group Net", "members[1].user"],
        ["t.yaml:9", "holiday calendar Bern", "country"],
        ["t.yaml:10", "schedule S", "shifts"],
        ["t.yaml:11", "support hours Office", "time_zone"],
        ["t.yaml:13", "escalation policy P", "steps[0].notify.roles[0]"],
        ["t.yaml:15", "client table T", "colour"],
        ["t.yaml:17", "outbound integration Halo", "client_secret"],
        ["t.yaml:21", "integration B", "colour"],
        ["t.yaml:22", "maintenance window M", "ends"],
        ["t.yaml:24", "workflow V", "actions[1].do"],
        ["t.yaml:25", "workflow W", "actions[0].outbound"],
        ["t.yaml:27", "provider X", "kind"],
        ["t.yaml:5", "user bob", "out_of_office[0].to"],
    ]
    assert not User.objects.exists()
    assert not AuditEntry.objects.exists()


def test_unreachable_integration_names_its_line(now: datetime) -> None:
    (sentence,) = refusals(now, TEAM, INTEGRATION.replace("    recipients: {groups: [Desk]}\n", ""))
    assert sentence.startswith("1t.yaml:4: integration HaloITSM: escalation_policy: No one would be notified")


def test_the_example_applies_and_a_second_time_nothing_changes(now: datetime) -> None:
    text = EXAMPLE.read_text()
    first = apply(now, text)
    assert {line.change for line in first.lines} == {PlanAction.CREATE}
    assert plan_lines(first) == [
        "create    user alice",
        "create    user bob",
        "create    group Service Desk",
        "create    schedule Service Desk 24x7",
        "create    support hours Office hours",
        "create    escalation policy Standard",
        "create    integration HaloITSM",
    ]
    version, entries = ConfigVersion.objects.get().version, AuditEntry.objects.count()
    second = apply(now, text)
    assert {line.change for line in second.lines} == {PlanAction.UNCHANGED}
    assert second.is_empty
    assert (ConfigVersion.objects.get().version, AuditEntry.objects.count()) == (version, entries)
    assert (PolicyVersion.objects.count(), IntegrationVersion.objects.count()) == (1, 1)


def test_the_example_does_what_it_says(now: datetime) -> None:
    apply(now, EXAMPLE.read_text())
    desk = Group.objects.get(name="Service Desk")
    with database.transaction() as connection:
        people = loader.on_call(connection, [desk.pk], datetime(2026, 1, 13, 12, tzinfo=UTC))[desk.pk]
    assert [(str(p.role), p.name) for p in people] == [("primary", "Bob Brown"), ("secondary", "Alice Andersson")]
    registry = IntegrationRegistry()
    registry.refresh()
    integration = registry.get(Integration.objects.get().pk)
    assert [str(route.choice.action) for route in integration.normalizer.routes] == ["record", "page"]
    assert integration.recipient_groups == (desk.pk,)


def test_what_is_exported_applies_unchanged_and_says_the_same_elsewhere(now: datetime) -> None:
    apply(now, EXAMPLE.read_text())
    text = plan.write(plan.export_configuration(with_secrets=False))
    assert "token" not in text
    assert apply(now, text, prune=True).is_empty
    with_secrets = plan.write(plan.export_configuration(with_secrets=True))
    token = secrets.token_of(Integration.objects.get())
    assert f"token: {token}" in with_secrets
    assert apply(now, with_secrets).is_empty
    apply(now, "integrations: []\nescalation_policies: []\n", prune=True)
    rebuilt = apply(now, with_secrets)
    assert rebuilt.count(PlanAction.CREATE) == 2
    assert secrets.token_of(Integration.objects.get()) == token
    assert plan.write(plan.export_configuration(with_secrets=True)) == with_secrets


def test_empty_installation_exports_nothing_and_empty_file_changes_nothing(now: datetime) -> None:
    assert plan.write(plan.export_configuration(with_secrets=True)) == ""
    assert apply(now, "", "# nothing\n", "workflows: []\nholiday_calendars:\n").lines == ()


def test_a_preview_says_what_apply_will_do_and_changes_nothing(now: datetime) -> None:
    expected = collect(EXAMPLE.read_text())
    announced = plan.preview(expected, prune=False, now=now)
    assert not User.objects.exists()
    assert not ConfigVersion.objects.exists()
    assert plan.apply(expected, prune=False, now=now) == announced


def test_a_change_is_an_update_that_names_the_keys(now: datetime) -> None:
    apply(now, TEAM, INTEGRATION)
    done = apply(
        now,
        TEAM.replace("alice@example.org", "a@example.org"),
        INTEGRATION + "    mode: dry_run\n    token: " + "t" * 32,
    )
    assert [line for line in plan_lines(done) if not line.startswith("unchanged")] == [
        "update    user alice: email",
        "update    integration HaloITSM: mode, token",
    ]


def test_a_rename_keeps_the_object_and_whatever_refers_to_it(now: datetime) -> None:
    apply(now, TEAM, INTEGRATION)
    before = {Group: Group.objects.get().pk, Policy: Policy.objects.get().pk, User: User.objects.get().pk}
    renamed = (
        "users: [{username: alicia, was: alice, email: alice@example.org}]\n"
        "groups: [{name: Service Desk, was: Desk, members: [{user: alicia, roles: [primary]}]}]\n"
        "escalation_policies: [{name: Usual, was: Standard, steps: [{notify: {roles: [primary]}}]}]\n"
    )
    done = apply(now, renamed)
    assert plan_lines(done)[:3] == [
        "update    user alicia (was alice): username",
        "update    group Service Desk (was Desk): name",
        "update    escalation policy Usual (was Standard): name",
    ]
    assert {Group: Group.objects.get().pk, Policy: Policy.objects.get().pk, User: User.objects.get().pk} == before
    spec = integrations.integration_spec(Integration.objects.get())
    assert (spec["escalation_policy"], spec["recipients"]) == ("Usual", {"groups": ["Service Desk"]})
    assert apply(now, renamed).is_empty, "a rename that is done is no change"


def test_rename_to_existing_name_is_rejected(now: datetime) -> None:
    apply(now, TEAM)
    make_user("alicia", now)
    (sentence,) = refusals(now, "users:\n  - {username: alicia, was: alice, email: alicia@example.org}\n")
    assert sentence.startswith("t.yaml:2: user alicia: was: alice and alicia both exist")


def test_prune_deletes_only_objects_of_listed_resources(now: datetime) -> None:
    apply(now, EXAMPLE.read_text())
    assert apply(now, "users: []\nintegrations: []\n").lines == ()
    done = apply(now, "integrations: []\nescalation_policies: []\nschedules:\n", prune=True)
    assert plan_lines(done) == [
        "delete    integration HaloITSM",
        "delete    escalation policy Standard",
        "delete    schedule Service Desk 24x7",
    ]
    assert User.objects.count() == 2
    assert not Integration.objects.exists()


def test_prune_refuses_what_is_still_needed_and_then_deletes_nothing(now: datetime) -> None:
    apply(now, EXAMPLE.read_text())
    errors = refusals(now, "escalation_policies: []\n", prune=True)
    assert errors == ["--prune: escalation policy Standard: Can't delete Standard: it is used by integration HaloITSM."]
    assert any("last administrator" in sentence for sentence in refusals(now, "users: []\n", prune=True))
    assert Policy.objects.exists()


def test_smtp_server_in_settings_is_a_secret_of_the_file(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "smtp://mailer:s3cret@smtp.example.org"
    monkeypatch.setenv("MAIL", url)
    apply(now, "settings: {smtp_url: {env: MAIL}}\n")
    try:
        assert environment.current().smtp_url == url
        masked = plan.write(plan.export_configuration(with_secrets=False))
        assert "s3cret" not in masked
        assert apply(now, masked).is_empty, "a masked password means unchanged"
        assert url in plan.write(plan.export_configuration(with_secrets=True))
    finally:
        environment.use_settings({})


def test_settings_are_applied_and_prune_restores_other_defaults(now: datetime) -> None:
    done = apply(now, "settings: {message_retention_days: 30, organisation_name: Acme}\n")
    assert plan_lines(done) == ["update    settings of the installation: message_retention_days, organisation_name"]
    assert settings_store.get("message_retention_days") == 30
    assert apply(now, "settings: {organisation_name: Acme}\n").is_empty
    assert not apply(now, "settings: {organisation_name: Acme}\n", prune=True).is_empty
    assert settings_store.get("message_retention_days") == 90
    assert plan.export_configuration(with_secrets=False) == {"settings": {"organisation_name": "Acme"}}


def test_several_files_are_one_configuration(now: datetime) -> None:
    apply(now, INTEGRATION, TEAM)
    assert Integration.objects.exists()
    (sentence,) = refusals(now, TEAM, "users: [{username: Alice, email: a2@example.org}]")
    assert sentence == "1t.yaml:1: there are two of user Alice; the other is at t.yaml:2."


def test_secrets_are_read_from_environment_or_adjacent_file(
    now: datetime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HALO_TOKEN", "e" * 32)
    (tmp_path / "password.txt").write_text("from a file\n")
    extra = "    token: {env: HALO_TOKEN}\n    credentials: {basic: {username: halo, password: {file: password.txt}}}\n"
    apply(now, TEAM, INTEGRATION + extra, folder=tmp_path)
    integration = Integration.objects.get()
    assert secrets.token_of(integration) == "e" * 32
    assert secrets.credentials_of(integration) == {"basic": {"username": "halo", "password": "from a file"}}
    stored = str(list(AuditEntry.objects.values()))
    assert "from a file" not in stored
    assert "e" * 32 not in stored


def test_secret_like_syntax_in_other_fields_is_literal(now: datetime) -> None:
    apply(now, TEAM, INTEGRATION + "    mapping: {tags: {env: environment^name}}\n")
    assert integrations.integration_spec(Integration.objects.get())["mapping"] == {"tags": {"env": "environment^name"}}


def test_concurrent_runs_are_serialized(now: datetime) -> None:
    """The second waits for the first, and then finds nothing left to do."""
    import threading

    from django.db import connections

    results: list[ConfigPlan] = []

    def run() -> None:
        try:
            results.append(apply(now, EXAMPLE.read_text()))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(result.is_empty for result in results) == [False, True]
    assert User.objects.count() == 2


PROVIDERS = """\
providers:
  - name: Push
    kind: ntfy
    channels: [ntfy]
    order: 2
    token: {env: NTFY_TOKEN}
"""


def test_provider_round_trips_and_exports_secret_only_on_request(
    now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NTFY_TOKEN", "tk_first")
    assert plan_lines(apply(now, PROVIDERS)) == ["create    provider Push"]
    assert apply(now, PROVIDERS).is_empty
    without = plan.write(plan.export_configuration(with_secrets=False))
    assert "tk_first" not in without
    assert apply(now, without).is_empty, "a secret that is left out stays"
    with_secrets = plan.write(plan.export_configuration(with_secrets=True))
    assert "token: tk_first" in with_secrets
    assert apply(now, with_secrets).is_empty
    monkeypatch.setenv("NTFY_TOKEN", "tk_second")
    assert plan_lines(apply(now, PROVIDERS)) == ["update    provider Push: token"]
    assert not any(token in str(list(AuditEntry.objects.values())) for token in ("tk_first", "tk_second"))
    assert plan_lines(apply(now, "providers: []", prune=True)) == ["delete    provider Push"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("kind: ntfy", "kind: pigeon"), 't.yaml:3: provider Push: kind: "pigeon" is not one of smtp, '),
        (("[ntfy]", "[sms]"), "t.yaml:4: provider Push: channels[0]: "),
        (("order: 2", "oder: 2"), 't.yaml:5: provider Push: oder: unknown key; did you mean "order"?'),
        (("NTFY_TOKEN", "NO_SUCH_TOKEN"), "t.yaml:6: the environment variable NO_SUCH_TOKEN is not set"),
    ],
)
def test_a_bad_provider_names_its_line(
    now: datetime, change: tuple[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NTFY_TOKEN", "tk_first")
    errors = refusals(now, PROVIDERS.replace(*change))
    assert any(sentence.startswith(expected) for sentence in errors), errors


HALO = """\
outbound_integrations:
  - name: Halo
    kind: haloitsm
    base_url: https://acme.haloitsm.com
    client_id: tocsin
    client_secret: {env: HALO_SECRET}
    agents: {ALICE: 7}
"""


def test_halo_at_new_address_requires_its_secret_again(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALO_SECRET", "first-secret")
    apply(now, TEAM, HALO)
    # Users are matched whatever the case of their names, and only once.
    row = OutboundIntegration.objects.get()
    assert [(match.user.username, match.number) for match in row.matches.all()] == [("alice", "7")]
    twice = refusals(now, TEAM, HALO.replace("{ALICE: 7}", "{ALICE: 7, alice: 8}"))
    assert any('agents: lists the user "alice" twice' in sentence for sentence in twice), twice
    without = HALO.replace("    client_secret: {env: HALO_SECRET}\n", "")
    assert apply(now, TEAM, without).is_empty, "a secret that is left out stays"
    elsewhere = without.replace("acme.haloitsm.com", "evil.example.org")
    errors = refusals(now, TEAM, elsewhere)
    expected = "outbound integration Halo: client_secret: enter the secret again: the address has changed"
    assert any(expected in sentence for sentence in errors), errors
    row.refresh_from_db()
    assert row.settings["base_url"] == "https://acme.haloitsm.com"
    with_secret = HALO.replace("acme.haloitsm.com", "acme.halopsa.com")
    assert any(
        line.startswith("update    outbound integration Halo") for line in plan_lines(apply(now, TEAM, with_secret))
    )


WORKFLOWS = """\
outbound_integrations:
  - {name: Pager, kind: http, url: "https://pager.example.org"}
workflows:
  - name: Nobody answers
    group: Desk
    trigger: {on: unacknowledged, for: 5m}
    start: {field: priority, operator: one of, value: [critical, high]}
    actions:
      - {do: notify, groups: [Desk], roles: [primary], subject: "Nobody answers: <subject>"}
      - {do: wait, for: 10m}
      - {do: call, outbound: Pager}
  - name: Restart
    trigger: {on: manual, confirm: Restart it now?}
    actions: [{do: start_policy, policy: Standard}]
"""


def test_workflows_are_applied_exported_renamed_and_pruned(now: datetime) -> None:
    planned = plan_lines(plan.preview(collect(TEAM, WORKFLOWS), prune=False, now=now))
    assert "create    workflow Nobody answers" in planned
    assert not Workflow.objects.exists()
    apply(now, TEAM, WORKFLOWS)
    assert list(Workflow.objects.values_list("name", "position", "trigger")) == [
        ("Nobody answers", 1, "unacknowledged"),
        ("Restart", 2, "manual"),
    ]
    written = plan.write(plan.export_configuration(with_secrets=False))
    assert "Nobody answers: <subject>" in written
    for text in ((TEAM, WORKFLOWS), (written,)):
        assert {line.split()[0] for line in plan_lines(apply(now, *text)) if "workflow" in line} == {"unchanged"}
    first = Workflow.objects.get(name="Restart").pk
    renamed = WORKFLOWS.replace("  - name: Restart\n", "  - name: Start again\n    was: Restart\n")
    apply(now, TEAM, renamed)
    assert Workflow.objects.get(name="Start again").pk == first
    lines = plan_lines(apply(now, TEAM.replace("Standard", "Other"), "workflows: []", prune=True))
    assert "delete    workflow Nobody answers" in lines
    assert not Workflow.objects.exists()
    wrong = WORKFLOWS.replace("groups: [Desk]", "groups: [Desc]")
    assert refusals(now, TEAM, wrong)[0].startswith(
        '1t.yaml:9: workflow Nobody answers: actions[0].groups[0]: no group named "Desc"'
    )


def test_plan_is_shown_before_it_is_applied(now: datetime) -> None:
    seen: list[tuple[object, int]] = []

    def announce(found: ConfigPlan) -> None:
        with database.connect(name="test") as other:
            seen.append((other.execute("SELECT count(*) FROM people_user").fetchone(), found.count(PlanAction.CREATE)))

    plan.apply(collect(TEAM), prune=False, now=now, on_plan=announce)
    assert seen == [((0,), 3)]
    assert User.objects.count() == 1


def test_file_with_secrets_restores_values_sealed_by_lost_key(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "providers:\n  - {name: Phones, kind: ntfy, token: tk_secret}\n"
    apply(now, TEAM, INTEGRATION, text)
    monkeypatch.setenv("TOCSIN_SECRET_KEY", "another-key-of-at-least-thirty-two-characters")
    environment.read_again()
    try:
        assert str(apply(now, TEAM, INTEGRATION, text).lines[-1]).startswith("update")
        assert apply(now, TEAM, INTEGRATION, text).is_empty
    finally:
        monkeypatch.undo()
        environment.read_again()
