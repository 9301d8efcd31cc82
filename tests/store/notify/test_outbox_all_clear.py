"""When an alert is assigned, closed or cancelled, paged users without a response are informed once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest

from tests.doubles.smtp import SmtpDouble
from tests.support.outbox_harness import OutboxHarness, outbox_harness
from tocsin.alerts import commands, service
from tocsin.alerts.commands import Acknowledge, Assign, Cancel, Close, Hold, Merge, Reply, Unassign
from tocsin.alerts.models import AlertEvent
from tocsin.alerts.service import FoundAlert
from tocsin.core.db import database
from tocsin.core.reasons import as_reason, each_of, reason_from_json
from tocsin.notify import listener
from tocsin.notify.models import Delivery, Notification, OptOut
from tocsin.notify.pages import cancel_pages
from tocsin.notify.rules.page_planner import FELL_BACK, NOT_RESENT, WAS_PAGED

pytestmark = pytest.mark.usefixtures("database", "sandbox_sends")


@pytest.fixture
def post(database: str, now: datetime) -> Iterator[OutboxHarness]:
    with outbox_harness(now) as office:
        commands.HANDLERS.register(listener.all_clear)
        for name in ("alice", "bob", "carol"):
            office.user(name)
        yield office


def paged(post: OutboxHarness) -> int:
    """An alert about which Alice and Bob were paged."""
    alert = post.alert()
    post.page(alert, "alice", "bob")
    post.go(post.seconds + 20)
    return alert


def all_clears_of(alert: int) -> list[tuple[str, str]]:
    rows = Notification.objects.filter(alert=alert, purpose="all_clear").select_related("user").order_by("id")
    return [(row.user.username, str(reason_from_json(row.data["news"]))) for row in rows if row.user is not None]


def test_paged_user_is_informed_of_the_new_owner(post: OutboxHarness) -> None:
    alert = paged(post)
    post.act(alert, Assign(actor=post.actor("alice"), name="Alice", user_id=post.users["alice"].pk))
    assert all_clears_of(alert) == [("bob", f"Assigned to Alice: VPN down (#{alert}). Nothing to do.")]


def test_user_informed_of_assignment_is_not_informed_of_close(post: OutboxHarness) -> None:
    alert = paged(post)
    post.act(alert, Assign(actor=post.actor("alice"), name="Alice", user_id=post.users["alice"].pk))
    post.go(post.seconds + 20)
    post.act(alert, Close(actor=post.actor("alice")))
    assert [name for name, _ in all_clears_of(alert)] == ["bob"]


def test_paged_user_is_informed_of_close_and_closer(post: OutboxHarness) -> None:
    alert = paged(post)
    post.act(alert, Close(actor=post.actor("carol")))
    news = f"Closed by Carol: VPN down (#{alert}). Nothing to do."
    assert all_clears_of(alert) == [("alice", news), ("bob", news)]


def test_closing_user_gets_no_all_clear(post: OutboxHarness) -> None:
    alert = paged(post)
    post.act(alert, Close(actor=post.actor("bob")))
    assert [name for name, _ in all_clears_of(alert)] == ["alice"]


def test_acknowledging_user_gets_no_all_clear(post: OutboxHarness) -> None:
    alert = paged(post)
    post.act(alert, Acknowledge(actor=post.actor("alice")))
    assert all_clears_of(alert) == []
    post.act(alert, Cancel(actor=post.actor("carol")))
    assert all_clears_of(alert) == [("bob", f"Closed as false alarm by Carol: VPN down (#{alert}). Nothing to do.")]


def test_giving_it_to_another_names_both(post: OutboxHarness) -> None:
    alert = paged(post)
    post.act(alert, Assign(actor=post.actor("alice"), name="Carol", user_id=post.users["carol"].pk))
    assert all_clears_of(alert) == [("bob", f"Assigned to Carol by Alice: VPN down (#{alert}). Nothing to do.")]


def test_all_clear_without_earlier_page_is_not_sent(post: OutboxHarness) -> None:
    alert = post.alert()
    post.act(alert, Close(actor=post.actor("carol")))
    assert all_clears_of(alert) == []


def test_other_acts_are_no_all_clear(post: OutboxHarness) -> None:
    alert, other = paged(post), post.alert("Other")
    post.act(alert, Reply(actor=post.actor("carol"), text="Looking."))
    post.act(alert, Hold(actor=post.actor("carol"), until=post.at(9999)))
    post.act(alert, Assign(actor=post.actor("carol"), name="Halo's Harry"))
    assert {name for name, _ in all_clears_of(alert)} == {"alice", "bob"}
    assert all_clears_of(alert)[0][1].startswith("Assigned to Halo's Harry by Carol")
    before = all_clears_of(alert)
    post.act(alert, Unassign(actor=post.actor("carol")))
    merge(post, alert, other)
    assert all_clears_of(alert) == before


def merge(post: OutboxHarness, alert: int, into: int) -> None:
    post.act(alert, Merge(actor=post.actor("carol"), into=service.load_state(FoundAlert.by_tocsin(into))))


def test_all_clear_of_merged_alert_follows_assignment_of_its_parent(post: OutboxHarness) -> None:
    alert, other = paged(post), post.alert("Site down")
    post.page(other, "bob")
    post.go(post.seconds + 20)
    merge(post, alert, other)
    post.act(other, Close(actor=post.actor("carol")))
    assert all_clears_of(other) == [("bob", f"Closed by Carol: Site down (#{other}). Nothing to do.")]
    assert all_clears_of(alert) == [("alice", f"Closed by Carol: VPN down (#{alert}). Nothing to do.")], (
        "Bob is told once"
    )


def test_all_clear_of_self_ended_merged_alert_is_sent(post: OutboxHarness) -> None:
    alert, other = paged(post), post.alert("Site down")
    merge(post, alert, other)
    post.act(alert, Close(actor=post.actor("carol")))
    post.go(post.seconds + 20)
    post.act(other, Close(actor=post.actor("carol")))
    assert [name for name, _ in all_clears_of(alert)] == ["alice", "bob"]


def test_user_paged_again_after_all_clear_gets_another(post: OutboxHarness) -> None:
    alert = paged(post)
    post.act(alert, Assign(actor=post.actor("carol"), name="Carol", user_id=post.users["carol"].pk))
    post.go(post.seconds + 20)
    post.act(alert, Unassign(actor=post.actor("carol")))
    post.page(alert, "bob")
    post.go(post.seconds + 20)
    post.act(alert, Close(actor=post.actor("carol")))
    assert [name for name, _ in all_clears_of(alert)] == ["alice", "bob", "bob"]


EMAIL = {"label": "Email", "channel": "email", "address": "dave@example.org"}
SMS = {"label": "SMS", "channel": "sms", "address": "+41790000004"}
CALL = {"label": "Phone", "channel": "voice", "address": "+41790000004", "wait": "30m"}


def closed_for_dave(post: OutboxHarness, *methods: dict[str, str], without: str) -> Delivery:
    """The all-clear to Dave, who was paged at once by what does not wait, and has lost a way since."""
    dave = post.user("dave", *methods)
    alert = post.alert()
    post.page(alert, "dave")
    post.go(post.seconds + 20)
    post.act(alert, Close(actor=post.actor("carol")))
    dave.contact_methods.filter(label=without).delete()
    post.go(post.seconds + 20)
    return Delivery.objects.select_related("notification").get(purpose="all_clear", alert=alert)


def test_all_clear_of_removed_contact_method_uses_quietest_used_one(post: OutboxHarness) -> None:
    clear = closed_for_dave(post, EMAIL, SMS, CALL, without="Email")
    assert (clear.status, clear.channel, clear.address) == ("sent", "sms", "+41790000004")
    assert clear.notification.label == "SMS"
    assert each_of(clear.notification.reason) == (WAS_PAGED(), FELL_BACK(method="SMS", previous="Email"))


def test_all_clear_falls_back_to_unused_contact_method(post: OutboxHarness) -> None:
    clear = closed_for_dave(post, SMS, CALL, without="SMS")
    assert (clear.status, clear.channel) == ("sent", "voice")


def test_all_clear_skips_number_that_sent_stop(post: OutboxHarness) -> None:
    post.user("dave", SMS, CALL)
    alert = post.alert()
    post.page(alert, "dave")
    post.go(post.seconds + 20)
    OptOut.objects.create(channel="sms", address="+41790000004", provider_name="Twilio", at=post.now)
    post.act(alert, Close(actor=post.actor("carol")))
    post.go(post.seconds + 20)
    assert Delivery.objects.get(purpose="all_clear").channel == "voice"


def test_all_clear_without_contact_method_fails_with_reason(post: OutboxHarness) -> None:
    clear = closed_for_dave(post, SMS, without="SMS")
    assert (clear.status, str(clear.error)) == ("failed", "Dave no longer uses SMS.")
    alert_events = AlertEvent.objects.filter(alert=clear.alert_id, kind="page_failed")
    assert [str(event.reason) for event in alert_events] == [
        "An all-clear could not be sent to Dave by SMS: Dave no longer uses SMS."
    ]


# A page of which it is not known whether it left


def close_and_stop(post: OutboxHarness, alert: int) -> None:
    """Carol closes it, and what waits is stopped, as escalation does."""
    with database.transaction() as connection:
        cancel_pages(connection, [alert], None, "Carol closed it.", post.now)
    post.act(alert, Close(actor=post.actor("carol")))


def test_all_clear_follows_possibly_delivered_then_cancelled_page(post: OutboxHarness, mail: SmtpDouble) -> None:
    # The server took it, and hung up before it said so.
    mail.answers.append("")
    post.page(alert := post.alert(), "alice")
    post.go(0)
    close_and_stop(post, alert)
    post.go(20)
    assert len(mail.mails) == 2
    assert all_clears_of(alert) == [("alice", f"Closed by Carol: VPN down (#{alert}). Nothing to do.")]
    page, clear = post.deliveries(alert)
    assert (page.status, clear.status) == ("cancelled", "sent")
    assert page.reason == NOT_RESENT(cause=as_reason("Carol closed it."))


def test_all_clear_follows_page_cancelled_in_transit(post: OutboxHarness, mail: SmtpDouble) -> None:
    mail.answers.append("")
    original = mail.handle_DATA

    async def handle(*arguments: object) -> str:
        if not mail.mails:
            close_and_stop(post, alert)
        return await original(*arguments)  # type: ignore[arg-type]

    mail.handle_DATA = handle  # type: ignore[method-assign,assignment]
    post.page(alert := post.alert(), "alice")
    post.go(0)
    post.go(20)
    assert [d.status for d in post.deliveries(alert)] == ["cancelled", "sent"]


def test_all_clear_follows_page_of_killed_process_once(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.page(alert := post.alert(), "alice")
    with database.transaction() as connection:
        connection.execute(
            "UPDATE notify_delivery SET status = 'sending', leased_by = 'killed', attempts = 1, "
            "lease_until = clock_timestamp() - interval '1 second'"
        )
    post.outbox().maintain_leases()
    with database.transaction() as connection:
        cancel_pages(connection, [alert], None, "Carol took it.", post.now)
    post.act(alert, Assign(actor=post.actor("carol"), name="Carol", user_id=post.users["carol"].pk))
    post.go(20)
    post.act(alert, Close(actor=post.actor("carol")))
    post.go(40)
    assert all_clears_of(alert) == [("alice", f"Assigned to Carol: VPN down (#{alert}). Nothing to do.")]


def test_user_with_no_delivered_page_gets_no_all_clear(post: OutboxHarness, mail: SmtpDouble) -> None:
    mail.answers.append("450 later")
    post.page(alert := post.alert(), "alice")
    post.go(0)
    close_and_stop(post, alert)
    post.go(20)
    assert all_clears_of(alert) == []
    assert str(post.deliveries(alert)[0].reason) == "Carol closed it."
