"""Placeholders of text templates are replaced, with escapes for what surrounds them."""

from __future__ import annotations

from tocsin.core.validation import payload_paths


def test_templates_replace_what_is_known_and_leave_the_rest() -> None:
    values = {"subject": 'a "b"', "n": 7, "none": None, "list": ["x", 2]}
    assert payload_paths.render("<p><subject></p> <n> <<n> <nobody> <none>|<list>", values) == (
        '<p>a "b"</p> 7 <n> <nobody> |x, 2'
    )
    assert payload_paths.render('{"s": "<subject>"}', values, payload_paths.in_json) == '{"s": "a \\"b\\""}'
    assert payload_paths.render("/x?s=<subject>", values, payload_paths.in_url) == "/x?s=a%20%22b%22"
    # A ticket of that number must not lead to another address: two dots are the folder above.
    assert payload_paths.render("/tickets/<id>/close", {"id": ".."}, payload_paths.in_url) == "/tickets/%2E%2E/close"
    assert payload_paths.render("/v/<id>", {"id": "1.2"}, payload_paths.in_url) == "/v/1.2"
    assert payload_paths.references("<a.b> <c>") == {"a.b", "c"}
