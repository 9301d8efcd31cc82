"""Leases on rows: who holds them, and when the database is asked."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from tocsin.core.delivery.job_pool import MAX_UNCONFIRMED, LeaseKeeper, LeaseLost, LeaseTable

pytestmark = pytest.mark.usefixtures("database")


def test_lease_that_cannot_be_confirmed_counts_as_lost() -> None:
    row, seconds = uuid4(), [0.0]
    # Its statement fails, so whoever asks the database notices.
    keeper = LeaseKeeper[UUID](LeaseTable("no_such_table", "uuid"), "node", lambda: seconds[0])
    keeper.granted([row], keeper.now())
    seconds[0] = MAX_UNCONFIRMED
    keeper.check([row])
    seconds[0] += 0.001
    with pytest.raises(LeaseLost):
        keeper.check([row])
