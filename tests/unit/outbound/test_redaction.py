"""Secrets are removed from every text in a reason."""

from __future__ import annotations

from tocsin.core.reasons import joined
from tocsin.outbound import reasons
from tocsin.outbound.redaction import MASK, mask_reason


def test_secret_is_masked_in_nested_and_listed_texts() -> None:
    reason = joined(
        reasons.NOTHING_TO_CAPTURE(paths=("a^hush", "b")), reasons.SERVER_SAID(message="hush, hush"), separator=" "
    )
    masked = mask_reason(reason, lambda text: text.replace("hush", MASK))
    assert str(masked) == f"The response does not contain a^{MASK} and b. Response: {MASK}, {MASK}"
    assert masked.code == reason.code
