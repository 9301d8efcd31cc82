"""What still needs an object, what is forgotten with it, and what follows a change of it: higher rooms register a
question, or what they do, for a lower room's noun; deleting asks and tells them all, and so does changing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from tocsin.core.errors import Rejected

#: Given an object's id, the things that need it, each as words: `integration HaloITSM`.
type FindReferences = Callable[[int], Iterable[str]]

#: Given the id of an object that is being deleted, removes what is kept about it.
type OnDelete = Callable[[int], None]

#: Given the id of an object that has been changed, and when: does what follows from that.
type OnDeactivate = Callable[[int, datetime], None]

_asks: dict[str, list[FindReferences]] = {}
_forgets: dict[str, list[OnDelete]] = {}
_follows: dict[str, list[OnDeactivate]] = {}

_SHOWN = 5


def register(noun: str, ask: FindReferences) -> None:
    """Has `ask` answer for objects of `noun` (`user`, `group`, `policy`, …). Twice is once."""
    asks = _asks.setdefault(noun, [])
    if ask not in asks:
        asks.append(ask)


def register_forgetting(noun: str, forget: OnDelete) -> None:
    """Has `forget` called, in the same transaction, before an object of `noun` is deleted. Twice is once."""
    forgets = _forgets.setdefault(noun, [])
    if forget not in forgets:
        forgets.append(forget)


def forget(noun: str, number: int) -> None:
    """Removes what other rooms keep about an object that is about to be deleted."""
    for each in _forgets.get(noun, ()):
        each(number)


def register_following(noun: str, follow: OnDeactivate) -> None:
    """Has `follow` called, in the same transaction, after an object of `noun` was changed. Twice is once."""
    follows = _follows.setdefault(noun, [])
    if follow not in follows:
        follows.append(follow)


def changed(noun: str, number: int, now: datetime) -> None:
    """Does what follows in other rooms from the change of an object."""
    for each in _follows.get(noun, ()):
        each(number, now)


def of(noun: str, number: int) -> list[str]:
    """Everything that needs that object, each thing once."""
    return list(dict.fromkeys(thing for ask in _asks.get(noun, ()) for thing in ask(number)))


def refuse_deletion(noun: str, number: int, name: str) -> None:
    """Raises Rejected ("in_use") that names what still needs the object."""
    needed = of(noun, number)
    if needed:
        more = f" and {len(needed) - _SHOWN} more" if len(needed) > _SHOWN else ""
        raise Rejected("in_use", f"{name} cannot be deleted: {', '.join(needed[:_SHOWN])}{more} still needs it.")
