"""The models are checked on a machine without a database."""

from __future__ import annotations

import pytest
from django.db import connection

from tocsin.people.models import User


def test_checking_users_opens_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise AssertionError("The check asks the database.")

    monkeypatch.setattr(connection, "ensure_connection", refuse)
    for known, name in ((connection.features, "is_postgresql_18"), (connection, "pg_version")):
        monkeypatch.delitem(vars(known), name, raising=False)
    assert User.check(databases=["default"]) == []
