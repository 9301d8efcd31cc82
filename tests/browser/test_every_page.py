"""Every page on a phone and on a desktop, light and dark. Documentation screenshots are taken here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, expect
from pytest_django import DjangoDbBlocker

from tests.browser.conftest import PICTURES
from tests.doubles.smtp import smtp_double
from tests.support import service_desk
from tests.support.browser import DESK, PHONE, Theme, Visitor, visitor
from tests.support.ingest import make_integration
from tests.support.postgres import Postgres, new_database
from tests.support.server_process import PATIENCE, ServerProcess, demo, serve
from tests.support.service_desk import OnCallPlan, ServiceDesk
from tocsin.access import tokens
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.roles import TokenLimits, TokenScope
from tocsin.alerts.models import Alert
from tocsin.core.runtime import clock
from tocsin.identity.commands import save_provider as save_identity_provider
from tocsin.identity.models import IdentityProvider, LinkedIdentity
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.models import InboundMessage, Integration
from tocsin.outbound.models import OutboundIntegration
from tocsin.people.changes import users as people
from tocsin.people.changes.api_tokens import save_service_account
from tocsin.people.models import ServiceAccount, User
from tocsin.workflows import commands as workflows
from tocsin.workflows.models import Workflow

pytestmark = pytest.mark.browser


class Evening:
    """The running server, what there is on it, and Alice's cookies."""

    def __init__(
        self, running: ServerProcess, desk: ServiceDesk, duty: OnCallPlan, numbers: dict[str, int], state: Any
    ) -> None:
        self.running, self.desk, self.duty, self.numbers, self.state = running, desk, duty, numbers, state

    def _outbound(self) -> list[str]:
        place = f"/outbound/{OutboundIntegration.objects.get(kind='haloitsm').pk}/"
        tabs = ("", "edit/", "sync/", "tickets/", "people/", "log/", "log/?show=dead", "delete/")
        return ["/outbound/", "/outbound/add/haloitsm/", "/outbound/add/http/", *(place + tab for tab in tabs)]

    def _on_call(self) -> list[str]:
        duty = self.duty
        group, schedule = f"/on-call/groups/{duty.group}/", f"/on-call/schedules/{duty.schedule}/"
        override, calendar = f"/on-call/overrides/{duty.override}/", f"/on-call/holidays/{duty.calendar}/"
        hours = f"/on-call/support-hours/{duty.hours}/"
        return [
            "/on-call/", "/on-call/calendar/", f"/on-call/calendar/?group={duty.group}", "/on-call/override/",
            group, f"{group}?show=day", f"{group}?show=month", f"{group}?view=list", f"{group}reassign/",
            schedule, f"{schedule}edit/", f"{schedule}handovers/",
            f"/on-call/handovers/{duty.handover}/", f"{schedule}delete/", "/on-call/schedules/new/",
            override,
            "/on-call/holidays/", "/on-call/holidays/new/", calendar,
            "/on-call/support-hours/", "/on-call/support-hours/new/", hours,
            "/me/shifts/", "/me/absences/new/", f"/me/absences/{duty.absence}/",
        ]  # fmt: skip

    def _workflows(self) -> list[str]:
        first, tagged, *_others = Workflow.objects.values_list("pk", flat=True)
        place = f"/workflows/{first}/"
        return [
            "/workflows/", "/workflows/new/", "/workflows/new/?from=unacknowledged", place, f"{place}edit/",
            f"{place}?alert={self.numbers['vpn']}", f"{place}delete/", f"{place}log/?show=stuck",
            f"/workflows/{tagged}/log/",
        ]  # fmt: skip

    def _sign_in(self) -> list[str]:
        pages = ["/settings/sign-in/", "/settings/sign-in/new/keycloak/", "/settings/sign-in/new/saml/entra/"]
        for provider in IdentityProvider.objects.all():
            place = f"/settings/sign-in/{provider.pk}/"
            # A test whose provider does not answer.
            pages += [place, f"{place}provisioning/", f"{place}delete/"]
            pages += [f"/accounts/{provider.kind}/{provider.slug}/login/?test"]
        return [*pages, "/me/sign-ins/", "/me/tokens/new/"]

    def paths(self) -> list[str]:
        """Every page there is."""
        vpn, halo = self.numbers["vpn"], self.desk.halo
        amazon = Integration.objects.get(kind="cloudwatch").pk
        failed = InboundMessage.objects.filter(status=MessageStatus.FAILED).latest("received_at").pk
        opened = InboundMessage.objects.filter(status=MessageStatus.OPENED).latest("received_at").pk
        return [
            "/", "/alerts/", *(f"/alerts/?tab={tab}" for tab in ("acknowledged", "assigned", "on_hold", "closed")),
            "/alerts/?q=nothing+like+it", "/alerts/new/", *(f"/alerts/{number}/" for number in self.numbers.values()),
            f"/alerts/{vpn}/why-not-notified/",
            "/inbound-log/", "/inbound-log/?outcome=failed", f"/inbound-log/{failed}/", f"/inbound-log/{opened}/",
            f"/inbound-log/?alert={vpn}", "/integrations/", "/integrations/add/", "/integrations/add/haloitsm/",
            "/integrations/add/api/", f"/integrations/{halo}/",
            f"/integrations/{amazon}/guide/",
            *(f"/integrations/{halo}/{tab}/" for tab in
              ("mapping", "rules", "routing", "settings", "test", "security", "guide", "delete", "versions",
               "paging-preset")),
            "/policies/", "/policies/new/", f"/policies/{self.desk.policy}/", f"/policies/{self.desk.policy}/edit/",
            f"/policies/{self.desk.policy}/delete/", "/groups/", "/groups/new/", f"/groups/{self.desk.group}/",
            f"/groups/{self.desk.group}/edit/", f"/groups/{self.desk.group}/delete/", "/service-accounts/",
            "/service-accounts/new/", f"/service-accounts/{ServiceAccount.objects.get().pk}/",
            "/users/", "/users/invite/",
            "/users/invite/several/", f"/users/{self.desk.user}/", f"/users/{self.desk.user}/delete/", "/providers/",
            "/providers/add/smtp/", "/providers/add/ntfy/", "/providers/add/twilio/", "/providers/add/http_gateway/",
            "/providers/mail-replies/", "/sandbox/", "/audit-log/", "/system/", "/settings/", "/import/",
            *self._sign_in(),
            *self._outbound(), *self._on_call(), *self._workflows(), "/pause/", "/search/?q=a", "/wall/", "/reports/",
            "/reports/?by=client", "/reports/sla/", "/reports/noise/", "/reports/interruptions/",
            "/reports/fairness/", "/reports/fairness/?months=12", "/offline/",
            "/me/", "/me/devices/", "/me/notification-rules/",
            "/me/welcome/phone/", "/me/welcome/push/", "/me/welcome/test/", "/me/welcome/done/",
            "/client-tables/", "/client-tables/new/",
            "/maintenance/", "/maintenance/?tab=past", "/maintenance/new/",
            "/me/pages/", "/me/contact-methods/new/", "/account/2fa/",
            "/account/password/change/",
        ]  # fmt: skip


def sign_in(visitor: Visitor, username: str, password: str = service_desk.PASSWORD) -> None:
    """Signs one of the desk's people in, or of the demo's."""
    visitor.open("/account/login/")
    visitor.page.get_by_label("Username or email").fill(username)
    visitor.page.get_by_label("Password").fill(password)
    visitor.page.get_by_role("button", name="Sign in", exact=True).click()
    expect(visitor.page.get_by_role("heading", name="Home")).to_be_visible()


#: The narrowest screen that is promised.
SMALLEST = 360
THEMES: tuple[Theme, ...] = ("light", "dark")

#: What people and programs really send.
ODD = {
    "id": "odd", "status": "firing", "priority": "high",
    "subject": "الشبكة معطلة 🔥👩🏽 " + "a-name-without-any-space-in-it." * 9 + " <b>not bold</b> & more words",
    "client": "Ünïcödé & Söhne " * 8, "long_text": "<h1>Big</h1><img src=x onerror=alert(1)>" + "line\n" * 60,
    "requester": "\u202eevil\u202c name", "tags": {"environment": "x" * 200},
}  # fmt: skip

#: A button whose name is as long as a name may be.
ODD_BUTTON = {
    "name": "Restart all services of the warehouse management system in the branch office and inform everybody",
    "trigger": {"on": "manual", "confirm": "Now?"}, "actions": [{"do": "reply", "text": "It restarts."}],
    "start": {"field": "subject", "operator": "contains", "value": "<b>not bold</b>"},
}  # fmt: skip


@pytest.fixture(scope="module")
def evening(
    browser: Browser,
    postgres: Postgres,
    template: str,
    django_db_blocker: DjangoDbBlocker,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Evening]:
    """One for all of this module, since making it takes longer than most of the tests."""
    folder = tmp_path_factory.mktemp("evening")
    with new_database(postgres, template, django_db_blocker) as database, smtp_double() as mails:
        desk, duty = service_desk.set_up(), service_desk.plan_on_call()
        # Its guide has all that guides have: lists, and code in them.
        make_integration("AWS", "cloudwatch")
        _connect_providers()
        bot = save_service_account({"name": "deploy-bot", "role": "manager"}, actor=COMMAND_LINE, now=clock.now())
        limits = TokenLimits(TokenScope.READ, clients=frozenset({"Acme Corp"}))
        tokens.create(bot, "pipeline", limits=limits, actor=COMMAND_LINE, now=clock.now())
        # One message of each shape in the sandbox.
        for label, channel, address in (("Call", "voice", "+41790000001"), ("Chat", "chat", "slack:U012AB3CD")):
            spec = {"label": label, "channel": channel, "address": address}
            alice = User.objects.get(username="alice")
            people.save_contact_method(alice, spec, actor=COMMAND_LINE, now=clock.now())
        with serve(folder, database, TOCSIN_SMTP_URL=mails.url, TOCSIN_EMAIL_FROM="tocsin@example.org") as running:
            numbers = service_desk.receive_an_evening(running.url, desk)
            with mails.arrived:
                mails.arrived.wait_for(lambda: any("VPN down" in mail.part("plain") for mail in mails.mails), 15)
            # A page that stayed open would fetch its parts again all the time.
            with visitor(browser, running.url) as alice:
                sign_in(alice, "alice")
                state = alice.context.storage_state()
            yield Evening(running, desk, duty, numbers, state)


@pytest.mark.long
def test_documentation_screenshots_are_captured(browser: Browser, tmp_path: Path) -> None:
    """Of the demo with its history, and a critical ticket that has just arrived."""
    with demo(tmp_path, has_history=True) as running:
        password = running.wait_for(r"with the password (\S+)")[1]
        url, ticket = running.wait_for(r"^curl -s (\S+) .* -d '(.+)'$").groups()
        headers = {"Content-Type": "application/json"}
        alert = httpx.post(url, content=ticket.encode(), headers=headers, timeout=PATIENCE).json()["alert_id"]
        # The first objects of a new database.
        shots: tuple[tuple[str, str, int, Theme], ...] = (
            ("alert", f"/alerts/{alert}/", DESK, "light"),
            ("alert-dark-phone", f"/alerts/{alert}/", PHONE, "dark"),
            ("alert-list", "/alerts/", DESK, "light"),
            ("alert-list-phone", "/alerts/", PHONE, "dark"),
            ("calendar", "/on-call/calendar/", DESK, "light"),
            ("calendar-phone", "/on-call/calendar/", PHONE, "light"),
            ("client-month", "/reports/client/?client=Globex", DESK, "light"),
            ("home", "/", DESK, "light"),
            ("inbound-log", "/inbound-log/", DESK, "light"),
            ("reports", "/reports/", DESK, "light"),
            ("on-call", "/on-call/groups/1/", DESK, "light"),
            ("policy", "/policies/1/edit/", DESK, "light"),
            ("schedule-editor", "/on-call/schedules/1/edit/", DESK, "light"),
            ("halo-guide", "/integrations/1/guide/", DESK, "light"),
            ("halo-connect", "/outbound/add/haloitsm/", DESK, "light"),
            ("halo-written-back", "/outbound/1/sync/", DESK, "light"),
        )
        PICTURES.mkdir(exist_ok=True)
        with visitor(browser, running.url) as alice:
            sign_in(alice, "alice", password)
            state = alice.context.storage_state()
            alice.open("/sandbox/")
            links = re.findall(r"http://localhost:\d+/a/", alice.page.content())
            assert set(links) == {f"{running.url}/a/"}, "the history links to this server"
        for (width, theme), those in groupby(sorted(shots, key=_window), _window):
            with visitor(browser, running.url, width=width, theme=theme, state=state) as alice:
                for name, path, *_ in those:
                    alice.open(path)
                    alice.page.evaluate("document.fonts.ready")
                    # What a schedule would do is asked for once its form is there.
                    expect(alice.page.get_by_text("Fill in the form to see a preview")).to_have_count(0)
                    (PICTURES / f"{name}.png").write_bytes(alice.picture())
                assert not alice.problems, "\n".join(alice.problems)


def _connect_providers() -> None:
    """Two identity providers at an address where none listens; Alice is linked to one of them."""
    common = {"allow_private": True, "allowed_domains": ["example.org"], "default_role": "observer"}
    address, now = "http://127.0.0.1:9/", clock.now()
    for spec in (
        {"name": "Keycloak", "preset": "keycloak", "issuer": address, "client_id": "tocsin"},
        {"name": "Entra", "kind": "saml", "preset": "entra", "metadata_url": f"{address}metadata"},
    ):
        provider = save_identity_provider({**common, **spec}, actor=COMMAND_LINE, now=now)
    LinkedIdentity.objects.create(
        provider=provider,
        user=User.objects.get(username="alice"),
        issuer=address,
        subject="2f1c6d1e-4a8e-4c1b-9a53-3d9b0f1f7a10",
        created_at=now,
        signed_in_at=now,
    )


def _window(shot: tuple[str, str, int, Theme]) -> tuple[int, Theme]:
    return shot[2:]


#: Pages drawn by the same templates as others are, which the short walk opens: the same form with other fields, the
#: same list with another filter, the same question before something is deleted.
SAME_TEMPLATE = re.compile(
    r"/alerts/\?tab=(acknowledged|assigned|on_hold)|/inbound-log/\?|/integrations/add/api/|/policies/\d+/delete/"
    r"|/groups/\d+/delete/|/integrations/\d+/delete/|/workflows/\d+/delete/|/settings/sign-in/\d+/delete/"
    r"|/outbound/\d+/log/\?|/providers/add/(ntfy|http_gateway)/|/reports/\?by=client|/reports/fairness/\?"
    r"|/workflows/new/\?|/workflows/\d+/log/$|/on-call/calendar/\?|/maintenance/\?tab=past|/outbound/add/http/"
    r"|/accounts/saml/"
)


def test_pages_are_accessible_quiet_and_fit_the_screen(browser: Browser, evening: Evening) -> None:
    """One page of each template. The navigation is that of the first one."""
    _receive_odd_texts(evening)
    alike = {f"/alerts/{evening.numbers[name]}/" for name in ("certificate", "printer", "disk", "backup")}
    paths = [path for path in evening.paths() if path not in alike and not SAME_TEMPLATE.match(path)]
    _walk(browser, evening, paths, DESK, "light", "en-GB", frames=1)


@pytest.mark.long
@pytest.mark.parametrize("locale", ["en-GB", "de-CH"])
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", [DESK, SMALLEST])
def test_every_page_is_accessible_quiet_and_fits_the_screen(
    browser: Browser, evening: Evening, width: int, theme: Theme, locale: str
) -> None:
    _receive_odd_texts(evening)
    paths = evening.paths()
    _walk(browser, evening, paths, width, theme, locale, frames=len(paths))


def _walk(
    browser: Browser, evening: Evening, paths: list[str], width: int, theme: Theme, locale: str, *, frames: int
) -> None:
    """Checks each page, and the navigation of the first `frames` of them."""
    with visitor(browser, evening.running.url, width=width, theme=theme, state=evening.state, locale=locale) as alice:
        for number, path in enumerate(paths):
            alice.open(path)
            alice.check_page(frame=number < frames)
            if width == DESK:
                with alice.narrowed(SMALLEST):
                    alice.check_width(f"{path} on a phone")
        expect(alice.page.locator(f"html[lang={locale[:2]}]")).to_be_attached()
        assert not alice.problems, "\n".join(alice.problems)


def test_a_page_is_dark_where_the_system_is(browser: Browser, evening: Evening) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    with _signed_in(browser, evening, DESK, "light") as alice, _signed_in(browser, evening, DESK, "dark") as night:
        alice.open("/")
        light = alice.page.evaluate(background)
        alice.page.emulate_media(color_scheme="dark")
        night.open("/")
        assert light != alice.page.evaluate(background) == night.page.evaluate(background)


def test_observer_on_smallest_screen_sees_content_without_actions(browser: Browser, evening: Evening) -> None:
    odd = _receive_odd_texts(evening)
    with visitor(browser, evening.running.url, width=SMALLEST, theme="dark") as olga:
        sign_in(olga, "olga")
        seen = ("/", "/alerts/", f"/alerts/{odd}/", "/inbound-log/", "/groups/", "/search/?q=a")
        for path in (*seen, "/on-call/", f"/on-call/groups/{evening.duty.group}/?show=month"):
            olga.open(path)
            olga.check_page()
            # How one sees one's own list is no action on an alert.
            own = "/alerts/preferences"
            expect(olga.page.locator(f"main form[method=post]:not([action='{own}'])")).to_have_count(0)
        olga.check()


@pytest.mark.parametrize(
    ("width", "theme"), [(DESK, "light"), *(pytest.param(SMALLEST, theme, marks=pytest.mark.long) for theme in THEMES)]
)
def test_pages_of_clients_and_guests_are_accessible(
    browser: Browser, evening: Evening, width: int, theme: Theme
) -> None:
    alert = Alert.objects.get(pk=evening.numbers["vpn"])
    secret, client = _invite_client(alert.client)
    with visitor(browser, evening.running.url, width=width, theme=theme) as guest:
        status = f"/status/{secret}/"
        for path in ("/account/login/", status, f"{status}{alert.pk}/", f"{status}history/", f"{status}reports/"):
            guest.open(path)
            guest.check_page(path.replace(secret, "TOKEN"))
        guest.open("/account/login/")
        guest.page.get_by_label("Username or email").fill(client)
        guest.page.get_by_label("Password").fill(service_desk.PASSWORD)
        guest.page.get_by_role("button", name="Sign in", exact=True).click()
        expect(guest.page.get_by_role("heading", name="Alerts")).to_be_visible()
        place = f"/client/{alert.pk}/"
        for path in ("/client/", place, "/client/history/", "/reports/", "/reports/sla/", "/me/", "/me/tokens/new/"):
            guest.open(path)
            guest.check_page()
        guest.check()


def _invite_client(name: str) -> tuple[str, str]:
    """The secret of a token for a client's status page, and the username of somebody of that client."""
    limits, now = TokenLimits(TokenScope.READ, clients=frozenset({name})), clock.now()
    bot = User.accounts.get(username="deploy-bot")
    secret = tokens.create(bot, f"page {now.timestamp():.0f}", limits=limits, actor=COMMAND_LINE, now=now).secret
    username = f"client{now.timestamp():.0f}"
    spec = {"username": username, "email": f"{username}@acme.example", "role": "observer", "clients": [name]}
    user = people.save_user(spec, actor=COMMAND_LINE, now=now)
    user.set_password(service_desk.PASSWORD)
    user.save()
    return secret, username


def _receive_odd_texts(evening: Evening) -> int:
    answer = httpx.post(evening.running.url + evening.desk.monitoring_path, json=ODD, timeout=PATIENCE).json()
    evening.numbers["odd"] = int(answer["alert_id"])
    if not Workflow.objects.filter(name=ODD_BUTTON["name"]).exists():
        workflows.save_workflow(ODD_BUTTON, actor=COMMAND_LINE, now=clock.now())
    return evening.numbers["odd"]


def _signed_in(browser: Browser, evening: Evening, width: int, theme: str) -> Any:
    return visitor(browser, evening.running.url, width=width, theme=theme, state=evening.state)  # type: ignore[arg-type]
