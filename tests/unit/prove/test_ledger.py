"""What counts as lost, opened twice, never paged and paged twice."""

from __future__ import annotations

from tests.prove.ledger import Page, Stored, Ticket, count, resumed_at


def answered(number: int, at: float = 1.0) -> Ticket:
    return Ticket(number, 1, f"m{number}", at)


def page(number: int, at: float = 2.0, to: str = "alice", message_id: str = "d1") -> Page:
    return Page(at, to, frozenset({number}), message_id)


def stored(*numbers: int) -> Stored:
    return Stored(frozenset(f"m{number}" for number in numbers), dict.fromkeys(numbers, 1))


def test_answered_stored_and_paged_ticket_is_held() -> None:
    counts = count([answered(1)], stored(1), [page(1)], fault_at=1.5, resumed=3.0)
    assert counts.is_held
    assert (counts.answered, counts.seconds, counts.page_p95, counts.page_max) == (1, 1.5, 1.0, 1.0)


def test_answered_message_that_is_not_stored_is_lost() -> None:
    counts = count([answered(1), answered(2)], stored(1), [page(1), page(2)], fault_at=0, resumed=1)
    assert (counts.lost, counts.is_held) == (1, False)


def test_answered_message_without_an_alert_is_lost() -> None:
    counts = count([answered(1)], Stored(frozenset({"m1"}), {}), [page(1)], fault_at=0, resumed=1)
    assert counts.lost == 1


def test_unanswered_message_is_not_counted() -> None:
    counts = count([Ticket(1, 1, problems=["refused"])], stored(), [], fault_at=0, resumed=1)
    assert (counts.answered, counts.lost, counts.never_paged, counts.refused_attempts) == (0, 0, 0, 1)


def test_two_alerts_of_one_ticket_are_opened_twice() -> None:
    counts = count([answered(1)], Stored(frozenset({"m1"}), {1: 2}), [page(1)], fault_at=0, resumed=1)
    assert (counts.opened_twice, counts.is_held) == (1, False)


def test_answered_ticket_without_page_is_never_paged() -> None:
    counts = count([answered(1)], stored(1), [page(2)], fault_at=2, resumed=3)
    assert (counts.never_paged, counts.is_held, counts.page_max) == (1, False, None)


def test_repeated_delivery_to_one_person_is_paged_twice() -> None:
    counts = count([answered(1)], stored(1), [page(1), page(1, 3)], fault_at=0, resumed=1)
    assert (counts.paged_twice, counts.separate_pages, counts.is_held) == (1, 0, True)


def test_second_delivery_to_one_person_is_a_separate_page() -> None:
    counts = count([answered(1)], stored(1), [page(1), page(1, 3, message_id="d2")], fault_at=0, resumed=1)
    assert (counts.paged_twice, counts.separate_pages) == (1, 1)


def test_pages_to_two_people_are_not_paged_twice() -> None:
    counts = count([answered(1)], stored(1), [page(1), page(1, 3, "bob", "d2")], fault_at=0, resumed=1)
    assert counts.paged_twice == 0


def test_fault_after_which_no_page_is_sent() -> None:
    assert not count([answered(1)], stored(1), [page(1)], fault_at=0, resumed=None).is_held


def test_paging_resumes_with_a_message_answered_after_the_fault() -> None:
    # Ticket 1 was on its way already.
    assert resumed_at({1: 1.0, 2: 6.0}, {1: 5.5}, 5.0) is None
    assert resumed_at({1: 1.0, 2: 6.0}, {1: 5.5, 2: 6.5}, 5.0) == 6.5


def test_delays_count_from_when_pages_can_arrive() -> None:
    counts = count([answered(1)], stored(1), [page(1, 9.0)], fault_at=0, resumed=1, pages_from=8.5)
    assert counts.page_max == 0.5
