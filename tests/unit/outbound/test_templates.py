"""Templates and redaction."""

from __future__ import annotations

from tocsin.outbound import redaction, templates


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
