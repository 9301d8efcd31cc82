"""Rate limits, backoff, circuit breakers, templates and redaction, without a clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tests.support.hypothesis_profiles import examples
from tocsin.outbound import rate_limit, redaction, templates
from tocsin.outbound.rate_limit import RequestRate

NOW = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)
TWO = RequestRate(2, 20)


@examples(60)
@given(st.lists(st.tuples(st.integers(0, 30_000), st.integers(0, 30)), max_size=40))
def test_the_rate_never_lets_more_through_than_burst_and_average(steps: list[tuple[int, int]]) -> None:
    granted, at, total = None, NOW, 0
    for wait, request_count in steps:
        at += timedelta(milliseconds=wait)
        count = max(0, min(request_count, rate_limit.allowance(TWO, granted, at)))
        granted = rate_limit.charged(TWO, granted, count, at)
        total += count
        assert total <= TWO.burst + TWO.per_second * (at - NOW).total_seconds() + 1


def test_backoff_grows_to_half_an_hour_and_honours_retry_after() -> None:
    waits = [rate_limit.retry_in(attempts, 0.0) for attempts in range(1, 15)]
    assert waits[0] == timedelta(seconds=5)
    assert waits == sorted(waits)
    assert waits[-1] == timedelta(minutes=30)
    assert rate_limit.retry_in(1, 0.0, timedelta(minutes=2)) == timedelta(minutes=2)
    assert [rate_limit.open_duration(failures) for failures in (0, 4, 5, 99)] == [
        None, None, timedelta(seconds=15), timedelta(minutes=5),
    ]  # fmt: skip
    assert rate_limit.throttle(1, None) == timedelta(seconds=5)
    assert rate_limit.throttle(9, None) == timedelta(seconds=60)
    assert rate_limit.throttle(9, timedelta(seconds=7)) == timedelta(seconds=7)


def test_templates_replace_what_is_known_and_leave_the_rest() -> None:
    values = {"subject": 'a "b"', "n": 7, "none": None, "list": ["x", 2]}
    assert templates.render("<p><subject></p> <n> <<n> <nobody> <none>|<list>", values) == (
        '<p>a "b"</p> 7 <n> <nobody> |x, 2'
    )
    assert templates.render('{"s": "<subject>"}', values, templates.in_json) == '{"s": "a \\"b\\""}'
    assert templates.render("/x?s=<subject>", values, templates.in_url) == "/x?s=a%20%22b%22"
    # A ticket of that number must not lead to another address: two dots are the folder above.
    assert templates.render("/tickets/<id>/close", {"id": ".."}, templates.in_url) == "/tickets/%2E%2E/close"
    assert templates.render("/v/<id>", {"id": "1.2"}, templates.in_url) == "/v/1.2"
    assert templates.references("<a.b> <c>") == {"a.b", "c"}


def test_secrets_are_masked_wherever_they_stand() -> None:
    text = '{"access_token": "abc\\"d", "client_secret":"x"} grant_type=a&client_secret=xyz&scope=all'
    masked = redaction.mask_text(text)
    assert "abc" not in masked
    assert "xyz" not in masked
    assert "scope=all" in masked
    assert "0123456789abcdef0123456789abcdef" not in redaction.mask_text(
        '"url": "https://t/in/0123456789abcdef0123456789abcdef"'
    )
    assert redaction.mask_url("https://user:pw@x.example/a?token=t1&b=2") == "https://x.example/a?token=•••&b=2"
