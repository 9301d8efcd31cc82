"""Logs never contain secrets of URLs and headers."""

from __future__ import annotations

import pytest

from tocsin.core.runtime.logs import mask_tokens


@pytest.mark.parametrize(
    "text",
    [
        "POST /in/SECRETsecret1 404",
        "GET /a/SECRETsecret1?x=1",
        "GET /setup/SECRETsecret1",
        "Unprocessable Content: /welcome/SECRETsecret1:1xW2Cs:0-9Ip7CP",
        "Forbidden: /account/password/reset/key/1-diksyj-SECRETsecret1/",
        "Authorization: Bearer SECRETsecret1",
        "authorization: GenieKey SECRETsecret1",
        "postgresql://tocsin:SECRETsecret1@db.example/tocsin",
        "smtp://user:SECRETsecret1@mail.example:587",
    ],
)
def test_a_secret_is_masked_and_the_rest_stays(text: str) -> None:
    assert "SECRETsecret1" not in mask_tokens(text)
    assert mask_tokens(text).count("***") == 1


def test_test_token_is_masked_with_its_url_token() -> None:
    assert mask_tokens("POST /in/SECRETsecret1/test/SECRETsecret2 404") == "POST /in/*** 404"
