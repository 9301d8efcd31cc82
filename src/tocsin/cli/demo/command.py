"""`tocsin demo`: Tocsin with a sample team, its history and a fake Halo, on a data directory of its own."""

from __future__ import annotations

import os
import secrets
from datetime import datetime, timedelta
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, Any

import typer

from tocsin.cli import serve
from tocsin.cli.demo.incidents import DAYS, ZONE
from tocsin.cli.session import configure, open_database
from tocsin.core.config import environment
from tocsin.core.config.environment import DEFAULT_HOST, DEFAULT_PORT
from tocsin.core.errors import Rejected
from tocsin.core.reasons import sentence
from tocsin.core.runtime import telemetry
from tocsin.fake_halo import server as fake_halo_demo

#: Variables that the demo ignores, because they would let it reach real recipients or another database.
IGNORED = ("TOCSIN_SMTP_URL", "TOCSIN_DATABASE_URL", "TOCSIN_HEARTBEAT_URL")

_TICKET = (
    '{"event": "new ticket logged", "object_id": 20817, "ticket": {"id": 20817, '
    '"summary": "VPN down: Zürich, 40 users", "status": {"id": 1, "name": "New"}, "priority": {"name": "Critical"}, '
    '"client_name": "Acme Corp", "agent_id": 1, "user_name": "José Ångström", '
    '"details": "VPN gateway zrh-vpn-01 does not answer."}}'
)

#: Write-back of the demo: notes, and the agent who is assigned.
_SYNC = {
    "acknowledge": {"note": True},
    "assign": {"note": True, "agent": True, "status": "In Progress"},
    "escalate": {"note": True},
    "reply": {"note": True},
    "hold": {"note": True},
    "close": {"note": True, "status": "Closed"},
    "exhausted": {"note": True},
}
#: Not a secret: the fake Halo is reachable only on this machine and stores nothing.
_HALO_SECRET = "halo-demo-secret"  # noqa: S105


def demo(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = DEFAULT_HOST,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on.")] = DEFAULT_PORT,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            metavar="D",
            help="The demo's data directory. Default: $TOCSIN_DATA_DIR, else a separate one.",
            show_default=False,
        ),
    ] = None,
    history: Annotated[bool, typer.Option(help="Start with three weeks of alerts.")] = True,
) -> None:
    """Start Tocsin with a sample team and three weeks of history.

    All email, SMS, calls and push notifications go to the sandbox; nothing leaves the machine.
    """
    for name in IGNORED:
        for variable in (name, f"{name}_FILE"):
            if os.environ.pop(variable, None) is not None:
                typer.echo(f"The demo leaves {variable} out: it sends nothing.", err=True)
    # The fake Halo listens on this machine.
    os.environ["TOCSIN_ALLOW_TARGETS"] = "127.0.0.0/8"
    settings = configure(data_dir or demo_data_dir())
    telemetry.set_up_logs(settings.log_format)
    password = _password(settings.data_dir)
    # The links in the history lead to this server too.
    listening, url = serve.open_socket(host, port)
    with open_database(settings.data_dir) as session:
        from tocsin.notify.dispatch import send

        send.counts_as_sent = True
        _create_sample_team(password, with_history=history)
        halo = fake_halo_demo.start()
        token = _connect_halo(halo.url)
        primary = _primary()

        def announce(url: str) -> None:
            if token:
                fake_halo_demo.send_to(halo, f"{url}/in/{token}")
            typer.echo(_welcome(url, password, token, halo.url, primary), err=True)

        try:
            serve.run(session, listening, url, "all", on_ready=announce)
        finally:
            halo.stop()


def demo_data_dir() -> Path | None:
    """Return the demo's data directory, beside the default one; None if `TOCSIN_DATA_DIR` names it."""
    if os.environ.get("TOCSIN_DATA_DIR"):
        return None
    default_dir = environment.default_data_dir()
    return default_dir.with_name(f"{default_dir.name}-demo")


def _password(data_dir: Path) -> str:
    """Return the password of the demo's users, generating it on the first start.

    Raises Rejected if the directory holds something else: the demo would change it, and page real people.
    """
    path = data_dir / environment.DEMO_FILE
    if not path.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        if any(data_dir.iterdir()):
            raise Rejected(
                "not_possible",
                sentence(
                    "{folder} holds data that is not the demo's. Name another folder with --data-dir or "
                    "TOCSIN_DATA_DIR.",
                    folder=str(data_dir),
                ),
            )
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"demo-{secrets.token_hex(4)}")
    return path.read_text().strip()


def _create_sample_team(password: str, *, with_history: bool = False) -> None:
    """Create the sample team, its integrations and its history if they do not exist yet."""
    from django.contrib.auth.hashers import make_password

    from tocsin.access.audit import COMMAND_LINE
    from tocsin.cli.demo import history
    from tocsin.configure import config_files, plan, yaml_loader
    from tocsin.core.runtime import clock
    from tocsin.oncall.changes import commands as oncall
    from tocsin.people.models import ContactMethod, User

    if User.objects.exists():
        return
    now = clock.now()
    begin = now - timedelta(days=DAYS) if with_history else now
    with as_file(files("tocsin.cli.demo") / "sample_team.yaml") as path:
        plan.apply(config_files.collect([yaml_loader.read(path)]), prune=False, now=begin)
    for spec in schedules(now):
        oncall.save_schedule(spec, actor=COMMAND_LINE, now=begin)
    # Hashed once for all: a hash takes a quarter of a second on purpose.
    User.objects.update(password=make_password(password))
    # Finn has not verified his phone yet, so that readiness has something to show.
    ContactMethod.objects.exclude(user__username="finn").update(verified_at=begin)
    history.write_calls(now)
    if with_history:
        typer.echo("Writing three weeks of history …", err=True)
        history.write(now)


def schedules(now: datetime) -> list[dict[str, Any]]:
    """Return the schedules of both teams, which began four weeks ago. At the service desk Alice is on call this week
    and Bob the next, with an evening of Bob's week overridden by Dana."""
    today = now.astimezone(ZONE).date()
    monday = today - timedelta(days=today.weekday())
    evening = monday + timedelta(days=8)
    concert = {
        "name": "Bob's concert", "user": "dana", "instead_of": "bob", "role": "primary",
        "from": f"{evening}T17:00", "to": f"{evening}T23:00",
    }  # fmt: skip

    def weekly(name: str, group: str, on: str, users: list[str]) -> dict[str, Any]:
        rotate = {"every": "1w", "at": "09:00", "on": on, "users": users, "roles": ["primary", "secondary"]}
        begin = (monday - timedelta(weeks=4)).isoformat()
        shift = {"name": "Weekly", "rotate": rotate, "start": begin}
        return {"name": name, "group": group, "time_zone": ZONE.key, "shifts": [shift]}

    return [
        {**weekly("Service Desk 24x7", "Service Desk", "monday", ["alice", "bob"]), "overrides": [concert]},
        weekly("Network 24x7", "Network", "thursday", ["chen", "emma", "finn"]),
    ]


def _primary() -> str:
    """Return the display name of the user whom an alert pages first now; in the demo's second week that is Bob."""
    from tocsin.core.db import database
    from tocsin.core.runtime import clock
    from tocsin.oncall import loader
    from tocsin.people.models import Group

    with database.transaction() as connection:
        on_call = loader.on_call(connection, Group.objects.values_list("pk", flat=True), clock.now())
    return next((person.name for people in on_call.values() for person in people), "nobody")


def _connect_halo(url: str) -> str:
    """Connect the HaloITSM integration to the fake Halo, whose URL differs on each start. Return the token of the
    webhook URL.

    The integrations may have been renamed, so the first of each type is used. Without one the token is empty.
    """
    from tocsin.access.audit import COMMAND_LINE
    from tocsin.core.config import crypto
    from tocsin.core.runtime import clock
    from tocsin.inbound.admin import commands as inbound
    from tocsin.inbound.models import Integration
    from tocsin.outbound import commands as outbound
    from tocsin.outbound.models import OutboundIntegration

    existing = OutboundIntegration.objects.filter(kind="haloitsm").order_by("pk").first()
    spec = outbound.outbound_spec(existing) if existing else {"name": "Halo", "kind": "haloitsm", "sync": _SYNC}
    spec |= {"base_url": url, "client_id": "tocsin", "client_secret": _HALO_SECRET, "application": "Tocsin"}
    saved = outbound.save_outbound(spec, existing=existing, actor=COMMAND_LINE, now=clock.now())
    inbound_integration = Integration.objects.filter(kind="haloitsm").order_by("pk").first()
    if inbound_integration is None:
        return ""
    current_spec = inbound.integration_spec(inbound_integration)
    settings = {**current_spec.get("settings", {}), "halo_address": url}
    updated_spec = {**current_spec, "outbound": saved.name, "settings": settings}
    try:
        inbound.save_integration(updated_spec, existing=inbound_integration, actor=COMMAND_LINE, now=clock.now())
    except Rejected as rejected:
        typer.echo(
            f"{inbound_integration.name} stays as it is, and is not connected with the small Halo: {rejected.detail}",
            err=True,
        )
    return crypto.decrypt(inbound_integration.token)


def _welcome(url: str, password: str, token: str, halo: str, primary: str) -> str:
    address = f"{url}/in/{token}"
    tickets = "Its tickets come once there is a HaloITSM integration: add one, and start the demo again.\n\n"
    if token:
        tickets = (
            f"HaloITSM's URL:  {address}\n\n"
            f"A new ticket opens an alert, and pages {primary} in the sandbox:\n\n"
            f"curl -s {address} -H 'Content-Type: application/json' -d '{_TICKET}'\n\n"
        )
    return (
        f"\nTocsin is here:  {url}\n"
        f"Sign in as:      alice, with the password {password}\n"
        f"                 (bob, dana, chen, emma and finn have the same one)\n"
        f"A small Halo:    {halo}  (log a ticket, take it, close it, and see what Tocsin writes)\n"
        f"{tickets}"
        f"Stop with Ctrl+C. Nothing that is sent here leaves this machine.\n"
    )
