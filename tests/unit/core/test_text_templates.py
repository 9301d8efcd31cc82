"""Placeholders of text templates are replaced, with escapes for what surrounds them."""

from __future__ import annotations

from tocsin.core.validation import inputs


def test_templates_replace_what_is_known_and_leave_the_rest() -> None:
    values = {"subject": 'a "b"', "n": 7, "none": None, "list": ["x", 2]}
    assert inputs.render("<p><subject></p> <n> <<n> <nobody> <none>|<list>", values) == (
        '<p>a "b"</p> 7 <n> <nobody> |x, 2'
    )
    assert inputs.render('{"s": "<subject>"}', values, inputs.in_json) == '{"s": "a \\"b\\""}'
    assert inputs.render("/x?s=<subject>", values, inputs.in_url) == "/x?s=a%20%22b%22"
    # A ticket of that number must not lead to another address: two dots are the folder above.
    assert inputs.render("/tickets/<id>/close", {"id": ".."}, inputs.in_url) == "/tickets/%2E%2E/close"
    assert inputs.render("/v/<id>", {"id": "1.2"}, inputs.in_url) == "/v/1.2"
    assert inputs.references("<a.b> <c>") == {"a.b", "c"}
