"""Forms of flat objects: a blank secret keeps the stored one, and a field names the line that is wrong."""

from __future__ import annotations

import pytest

from tocsin.notify.providers.commands import spec_of
from tocsin.outbound.connectors.http import HttpCallSpec
from tocsin.web.ui.forms import SpecForm


@pytest.mark.parametrize("written", ["", "  ", " \t"])
def test_spaces_are_no_secret_of_a_provider(written: str) -> None:
    data = {"name": "Push", "order": "1", "enabled": "on", "api_base": "https://ntfy.example", "token": written}
    form = SpecForm(data, spec_type=spec_of("ntfy"), current={"kind": "ntfy"}, stored_secrets={"token"})
    assert form.is_valid(), form.errors
    assert "token" not in form.spec()
    given = SpecForm({**data, "token": "tk_1"}, spec_type=spec_of("ntfy"), current={}, stored_secrets={"token"})
    assert given.is_valid()
    assert given.spec()["token"] == "tk_1"


def test_a_line_that_is_no_pair_is_named() -> None:
    form = SpecForm({"headers": "a: b\n: c", "capture": "a = b"}, spec_type=HttpCallSpec, current={})
    assert form.errors["headers"] == ["“: c” is not valid. Use name: value."]
    assert form.cleaned_data["capture"] == {"a": "b"}


@pytest.mark.parametrize(("written", "message"), [("", None), ("  ", None), ("s3cret", "s3cret")])
def test_spaces_are_no_secret_of_an_outbound_integration(written: str, message: str | None) -> None:
    form = SpecForm(spec_type=HttpCallSpec, current={}, stored_secrets={"token"})
    form.cleaned_data = {**dict.fromkeys(form.fields, ""), "name": "Pager", "enabled": True, "token": written}
    assert form.spec().get("token") == message
