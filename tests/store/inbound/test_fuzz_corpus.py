"""Every kept input of the fuzzer ends in a result or a declared rejection. `make fuzz` looks for more."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.fuzz.targets import TARGETS, Target
from tests.support.vendor_callbacks import make_people


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_kept_inputs_of_the_fuzzer_hold(target: Target, request: pytest.FixtureRequest, now: datetime) -> None:
    if target.needs_database:
        request.getfixturevalue("database")
        make_people(now)
    for case in [*target.corpus().values(), target.seeds()[0]] if target.seeds() else target.corpus().values():
        target.run(case)
