"""Of a test that stands for many alike, `make test` runs the first ones, and `make test-all` every one."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import pytest


def first(count: int, values: Iterable[Any]) -> list[Any]:
    """The argument values of `parametrize`, those after the first `count` marked `long`."""
    rest = iter(values)
    return [*islice(rest, count), *(pytest.param(value, marks=pytest.mark.long) for value in rest)]
