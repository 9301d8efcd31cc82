"""Functions of higher rooms that a lower room calls without importing them. `wiring` registers them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Hooks[F]:
    """One kind of hook: its functions in the order of registration, by the kind of object if there are several."""

    def __init__(self) -> None:
        self._functions: dict[str, list[F]] = {}

    def register(self, function: F, kind: str = "") -> None:
        """Adds the function. Idempotent."""
        if function not in self.of(kind):
            self._functions.setdefault(kind, []).append(function)

    def of(self, kind: str = "") -> tuple[F, ...]:
        """Returns the functions for that kind of object."""
        return tuple(self._functions.get(kind, ()))

    @contextmanager
    def restored(self, *, empty: bool = False) -> Iterator[None]:
        """For tests: undoes, at its end, what is registered inside. `empty`: it begins with no function at all."""
        before = {kind: list(functions) for kind, functions in self._functions.items()}
        if empty:
            self._functions.clear()
        try:
            yield
        finally:
            self._functions = before
