"""The clock is two hours ahead and set back: while two nodes run, and while the only node is stopped."""

from __future__ import annotations

from tests.doubles.smtp import SmtpDouble
from tests.support.installation import Installation, ticket, until

AHEAD = 120.0


def paged(mails: SmtpDouble) -> set[str]:
    return {mail.to for mail in mails.mails}


def logged_jumps(tocsin: Installation) -> int:
    return len(tocsin.rows("SELECT FROM alerts_alertevent WHERE reason->>'code' = 'escalation.clock_rolled_back'"))


def opened_two_hours_ahead(tocsin: Installation, mails: SmtpDouble) -> None:
    """Alice is paged by a clock that is ahead; Bob is to be five minutes later."""
    tocsin.jump(minutes=AHEAD)
    until(
        "the clock was seen", lambda: tocsin.rows("SELECT FROM core_clockseen WHERE seen_at > now() + interval '1 h'")
    )
    tocsin.post(ticket(20817))
    until("Alice is paged", lambda: paged(mails) == {"alice@example.org"})


def test_clock_jump_with_two_nodes_moves_next_step_once(tocsin: Installation, mails: SmtpDouble) -> None:
    tocsin.serve()
    tocsin.serve()
    opened_two_hours_ahead(tocsin, mails)
    tocsin.jump(minutes=-AHEAD)
    until("what waits was moved", lambda: logged_jumps(tocsin))
    (run,) = tocsin.rows("SELECT due_at - now() AS left FROM escalation_run")
    assert 240 < run["left"].total_seconds() < 310
    tocsin.jump(minutes=5.5)
    until("Bob is paged", lambda: "bob@example.org" in paged(mails))
    assert logged_jumps(tocsin) == 1


def test_node_started_after_clock_rollback_moves_pending_work(tocsin: Installation, mails: SmtpDouble) -> None:
    tocsin.serve()
    opened_two_hours_ahead(tocsin, mails)
    tocsin.nodes[0].kill()
    tocsin.jump(minutes=-AHEAD)
    tocsin.serve()
    until("what waits was moved", lambda: logged_jumps(tocsin))
    tocsin.jump(minutes=5.5)
    until("Bob is paged", lambda: "bob@example.org" in paged(mails))
