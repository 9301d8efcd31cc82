"""Hooks by which higher rooms follow an object of a lower room.

A room registers a function that lists references to an object, cleans up before its deletion, or reacts to a change of
it. Deleting and changing an object call every hook registered for its kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from tocsin.core.errors import Rejected

#: Given an object's id, returns descriptions of the objects that reference it, such as `integration HaloITSM`.
type FindReferences = Callable[[int], Iterable[str]]

#: Given the id of an object that is about to be deleted, deletes the data kept about it.
type OnDelete = Callable[[int], None]

#: Given the id of a changed object and the time of the change, applies the consequences.
type OnDeactivate = Callable[[int, datetime], None]

_asks: dict[str, list[FindReferences]] = {}
_forgets: dict[str, list[OnDelete]] = {}
_follows: dict[str, list[OnDeactivate]] = {}

_SHOWN = 5


def register(noun: str, ask: FindReferences) -> None:
    """Registers `ask` to list references to objects of kind `noun` (`user`, `group`, `policy`, …). Idempotent."""
    asks = _asks.setdefault(noun, [])
    if ask not in asks:
        asks.append(ask)


def register_forgetting(noun: str, forget: OnDelete) -> None:
    """Registers `forget`, called in the same transaction before an object of kind `noun` is deleted. Idempotent."""
    forgets = _forgets.setdefault(noun, [])
    if forget not in forgets:
        forgets.append(forget)


def run_forget_hooks(noun: str, number: int) -> None:
    """Deletes the data that other rooms keep about an object that is about to be deleted."""
    for each in _forgets.get(noun, ()):
        each(number)


def register_following(noun: str, follow: OnDeactivate) -> None:
    """Registers `follow`, called in the same transaction after an object of kind `noun` has changed. Idempotent."""
    follows = _follows.setdefault(noun, [])
    if follow not in follows:
        follows.append(follow)


def run_change_hooks(noun: str, number: int, now: datetime) -> None:
    """Calls the hooks that other rooms registered for a change of this object."""
    for each in _follows.get(noun, ()):
        each(number, now)


def references_to(noun: str, number: int) -> list[str]:
    """Returns descriptions of everything that references the object, without duplicates."""
    return list(dict.fromkeys(thing for ask in _asks.get(noun, ()) for thing in ask(number)))


def refuse_deletion(noun: str, number: int, name: str) -> None:
    """Raises `Rejected("in_use")`, naming the references, if the object is still in use."""
    needed = references_to(noun, number)
    if needed:
        more = f" and {len(needed) - _SHOWN} more" if len(needed) > _SHOWN else ""
        raise Rejected("in_use", f"{name} cannot be deleted: {', '.join(needed[:_SHOWN])}{more} still needs it.")
