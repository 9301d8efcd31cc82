"""What still needs an object: higher rooms register a question for a lower room's noun, and deleting asks them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tocsin.core.errors import Rejected

#: Given an object's id, the things that need it, each as words: `integration HaloITSM`.
type Ask = Callable[[int], Iterable[str]]

_asks: dict[str, list[Ask]] = {}

_SHOWN = 5


def register(noun: str, ask: Ask) -> None:
    """Has `ask` answer for objects of `noun` (`user`, `group`, `policy`, …). Twice is once."""
    asks = _asks.setdefault(noun, [])
    if ask not in asks:
        asks.append(ask)


def of(noun: str, number: int) -> list[str]:
    """Everything that needs that object, each thing once."""
    return list(dict.fromkeys(thing for ask in _asks.get(noun, ()) for thing in ask(number)))


def refuse_deletion(noun: str, number: int, name: str) -> None:
    """Raises Rejected ("in_use") that names what still needs the object."""
    needed = of(noun, number)
    if needed:
        more = f" and {len(needed) - _SHOWN} more" if len(needed) > _SHOWN else ""
        raise Rejected("in_use", f"{name} cannot be deleted: {', '.join(needed[:_SHOWN])}{more} still needs it.")
