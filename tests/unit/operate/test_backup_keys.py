"""Keys of a backup that cannot be read, and keys that are elsewhere."""

from __future__ import annotations

import msgspec
import pytest

from tests.support.outbox_harness import configured
from tocsin.core.errors import Rejected
from tocsin.operate import encryption
from tocsin.operate.backup import archive


def test_keys_with_an_impossible_cost_are_damaged() -> None:
    sealed = archive.seal(["a key"], "passphrase", cost=2)
    sealed = msgspec.structs.replace(sealed, cost=1)
    with pytest.raises(Rejected) as rejected:
        archive.unseal(sealed, "passphrase")
    assert rejected.value.reason.code == "The backup is damaged: its secret key cannot be read."


def test_keys_of_the_environment_cannot_be_retired(monkeypatch: pytest.MonkeyPatch) -> None:
    configured(monkeypatch, secret_keys=("a-key-for-tests-only-0123456789abcdef",))
    with pytest.raises(Rejected) as rejected:
        encryption.retire()
    assert (
        rejected.value.reason.code == "The keys are in TOCSIN_SECRET_KEY. Keep only its first key, and restart Tocsin."
    )
