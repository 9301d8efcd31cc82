"""An installation with work in progress: what an upgrade must neither lose nor do twice.

Each alert is of its own integration, so that its next step is its own. Times are minutes of the test clock after the
backup.
"""

from __future__ import annotations

from pathlib import Path

from tests.doubles.smtp import smtp_double
from tests.support.installation import HttpResponse, Installation, ask, until

#: Encrypts what the backup has; tests only.
SECRET_KEY = "the-key-of-the-upgrade-tests-which-protects-nothing"

#: Webhook tokens by integration.
TOKENS = {name: f"{number}123456789abcdef0123456789abcdef" for number, name in enumerate(
    ("Paged", "Queued", "Snoozed", "Waiting workflow", "Delayed"), 1
)}  # fmt: skip

POLICIES = {"Paged": "Two steps", "Snoozed": "Soon two steps"}

CONFIGURATION = """
users:
  - username: alice
    name: Alice Andersson
    email: alice@example.org
    role: responder
    contact_methods: [{label: Email-Official, channel: email, address: alice@example.org}]
  - username: bob
    name: Bob Brown
    email: bob@example.org
    role: responder
    contact_methods: [{label: Email-Official, channel: email, address: bob@example.org}]
  - username: carol
    name: Carol Clark
    email: carol@example.org
    role: admin
    contact_methods: [{label: Email-Official, channel: email, address: carol@example.org}]
groups:
  - name: Desk
    members:
      - {user: alice, roles: [primary]}
      - {user: bob, roles: [secondary]}
      - {user: carol, roles: [lead]}
escalation_policies:
  - name: Two steps
    steps:
      - {notify: {roles: [primary]}, after: 0m}
      - {notify: {roles: [secondary]}, after: 60m}
      - {notify: {roles: [lead]}, after: 600m}
  - name: Soon two steps
    steps:
      - {notify: {roles: [primary]}, after: 0m}
      - {notify: {roles: [secondary]}, after: 3m}
      - {notify: {roles: [lead]}, after: 600m}
  - name: One step
    steps:
      - {notify: {roles: [primary]}, after: 0m}
      - {notify: {roles: [lead]}, after: 600m}
workflows:
  - name: Tell Carol later
    trigger: opened
    start: {field: integration, operator: equals, value: Waiting workflow}
    actions:
      - {do: wait, for: 20m}
      - {do: notify, users: [carol], subject: "Workflow: <subject>"}
integrations:
""" + "".join(
    f"  - {{name: {name}, kind: api, token: {token}, recipients: {{groups: [Desk]}}, "
    f"escalation_policy: {POLICIES.get(name, 'One step')}"
    f"{', delay: {wait: 30m}' if name == 'Delayed' else ''}}}\n"
    for name, token in TOKENS.items()
)

_WAITS = "SELECT 1 FROM notify_delivery WHERE status = 'queued' AND attempts > 0"


def post(installation: Installation, integration: str, text: str = "is down") -> HttpResponse:
    """Sends a message to an integration; its alert is named after it."""
    payload = {"id": integration, "subject": f"{integration} {text}", "status": "New"}
    return ask("POST", f"{installation.url}/in/{TOKENS[integration]}", payload)


def make(home: Path, target: Path) -> None:
    """Makes the state in `home` and backs it up to `target`.

    Paged: Alice was mailed; Bob is due in 45 minutes. Snoozed: Alice was mailed; the snooze ends in 36 minutes, and
    Bob is due 3 minutes later. Waiting workflow: notifies Carol in 15 minutes. Delayed: opens in 30 minutes. Queued:
    Alice's mail could not be sent.
    """
    with smtp_double() as mails:
        environment = {
            "TOCSIN_SECRET_KEY": SECRET_KEY,
            "TOCSIN_SMTP_URL": mails.url,
            "TOCSIN_EMAIL_FROM": "tocsin@example.org",
        }
        installation = Installation(home, environment)
        installation.apply(CONFIGURATION)
        installation.make_token()
        try:
            installation.serve()
            for integration in ("Paged", "Snoozed", "Waiting workflow"):
                number = post(installation, integration).json()["alert_id"]
                until(f"a mail about {integration}", lambda: any(integration in one for one in mails.subjects))  # noqa: B023
                if integration == "Snoozed":
                    installation.api(f"alerts/{number}/hold", {"for": "46m"})
                # Later pages to the same person would be bundled.
                installation.jump(minutes=5)
            assert post(installation, "Delayed").json()["status"] == "Mapped Delayed"
            mails.answers += ["450 later"] * 100
            post(installation, "Queued")
            until("a mail waits", lambda: installation.rows(_WAITS))
            subjects = sorted(mails.subjects)
            assert len(subjects) == 3, subjects
        finally:
            installation.end()
        target.parent.mkdir(parents=True, exist_ok=True)
        done = installation.run("backup", str(target), "--no-passphrase")
        assert done.returncode == 0, done.stderr
