"""Secrets are removed from every text in a reason."""

from __future__ import annotations

from tocsin.core.reasons import joined
from tocsin.outbound import reasons, redaction
from tocsin.outbound.redaction import MASK, mask_reason


def test_secret_is_masked_in_nested_and_listed_texts() -> None:
    reason = joined(
        reasons.NOTHING_TO_CAPTURE(paths=("a^hush", "b")), reasons.SERVER_SAID(message="hush, hush"), separator=" "
    )
    masked = mask_reason(reason, lambda text: text.replace("hush", MASK))
    assert str(masked) == f"The response does not contain a^{MASK} and b. Response: {MASK}, {MASK}"
    assert masked.code == reason.code


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
