"""An empty or blank secret field keeps the stored secret."""

from __future__ import annotations

import pytest

from tocsin.notify.registry import KINDS
from tocsin.web.outbound_forms import CommonForm, HttpForm
from tocsin.web.providers import ProviderForm


@pytest.mark.parametrize("written", ["", "  ", " \t"])
def test_spaces_are_no_secret_of_a_provider(written: str) -> None:
    data = {"name": "Push", "order": "1", "enabled": "on", "api_base": "https://ntfy.example", "token": written}
    form = ProviderForm(data, kind=KINDS["ntfy"], stored_secrets=frozenset({"token"}))
    assert form.is_valid(), form.errors
    assert "token" not in form.spec()
    given = ProviderForm({**data, "token": "tk_1"}, kind=KINDS["ntfy"], stored_secrets=frozenset({"token"}))
    assert given.is_valid()
    assert given.spec()["token"] == "tk_1"


@pytest.mark.parametrize(("written", "message"), [("", None), ("  ", None), ("s3cret", "s3cret")])
def test_spaces_are_no_secret_of_an_outbound_integration(written: str, message: str | None) -> None:
    form = HttpForm(stored=frozenset({"token"}))
    form.cleaned_data = {**dict.fromkeys(form.fields, ""), "name": "Pager", "enabled": True, "token": written}
    assert CommonForm.spec(form, {}).get("token") == message
