"""Encryption at rest: new values use the newest key, and every known key can decrypt."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tocsin.core.config import crypto, environment
from tocsin.core.errors import Permanent


@pytest.fixture
def use_keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def use(keys: str) -> None:
        monkeypatch.setenv("TOCSIN_SECRET_KEY", keys)
        environment.read_again()

    yield use
    monkeypatch.undo()
    environment.read_again()


def test_a_secret_comes_back_after_the_key_was_rotated(use_keys: Callable[[str], None]) -> None:
    use_keys("the-old-key-of-at-least-32-characters")
    stored = crypto.encrypt("pa55word")
    assert "pa55word" not in stored
    use_keys("the-new-key-of-at-least-32-characters,the-old-key-of-at-least-32-characters")
    assert crypto.decrypt(stored) == "pa55word"
    use_keys("another-key-of-at-least-32-characters")
    with pytest.raises(Permanent, match="TOCSIN_SECRET_KEY"):
        crypto.decrypt(stored)


def test_stored_key_is_created_once_under_concurrency(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: crypto.stored_key(tmp_path), range(16)))
    assert len(keys) == 1
    assert stat.S_IMODE((tmp_path / crypto.KEY_FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [crypto.KEY_FILE]


def test_emptied_key_file_is_an_error_not_a_new_key(tmp_path: Path) -> None:
    (tmp_path / crypto.KEY_FILE).write_text("")
    with pytest.raises(Permanent, match="backup"):
        crypto.stored_key(tmp_path)


def test_key_placed_by_restore_is_used_next(tmp_path: Path) -> None:
    first = crypto.stored_key(tmp_path)
    draft = tmp_path / "draft"
    draft.write_text("r" * len(first))
    draft.replace(tmp_path / crypto.KEY_FILE)
    assert crypto.stored_key(tmp_path) == "r" * len(first)


def test_unreadable_key_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / crypto.KEY_FILE).mkdir()
    with pytest.raises(Permanent) as raised:
        crypto.stored_key(tmp_path)
    assert raised.value.reason.code == "{file} cannot be read: {error}."
    assert (
        raised.value.remedy_reason.code
        == "Give it to the user that runs Tocsin (chown {user} {path}; chmod 600 {path})."
    )
    assert str(tmp_path / crypto.KEY_FILE) in str(raised.value)


def test_binary_key_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / crypto.KEY_FILE).write_bytes(b"\xff" * 64)
    with pytest.raises(Permanent) as raised:
        crypto.stored_key(tmp_path)
    assert raised.value.reason.code == "{path} does not hold a secret key."


def test_key_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(tmp_path / "missing")
    with pytest.raises(Permanent) as raised:
        crypto.stored_key(tmp_path / "data")
    assert (
        raised.value.remedy_reason.code
        == "Choose another data directory with TOCSIN_DATA_DIR, or set TOCSIN_SECRET_KEY."
    )
