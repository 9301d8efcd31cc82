"""The status of a message that names none: from flags, exit codes, conditions, and what sensors report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import Final

from tocsin.inbound.mapping.message_objects import MessageObjects
from tocsin.inbound.mapping.shared_names import (
    BEGAN_FLAG,
    COUNTED,
    ENDED_FLAG,
    EXIT_CODES,
    FOLDED_OUTCOMES,
    OVER_TEXTS,
    OVER_TIME,
    TRUTHS,
    WELL_FLAG,
    find_any,
    in_order,
    matching,
    texts_of,
)
from tocsin.inbound.mapping.status_words import StatusMeaning, meaning_of

#: What is "on" when it reports something.
_SENSOR: Final = re.compile(r"(?i)sensor|melder|detector|detecteur|détecteur")
_SENSOR_NAMES: Final = ("entityid", "sensor", "sensorname", "sensortype", "devicetype", "name")
_EDGES: Final = ("to", "tostate", "newstate", "state", "status")
_SWITCHED: Final = {"on": "open", "off": "resolved"}
_TRUTHS: Final = {"True": True, "False": False}
_ACTING: Final = (StatusMeaning.OPEN, StatusMeaning.CLOSE)
_MAX_YES_CHARS: Final = 40
_RESULTS: Final = in_order(("results", *EXIT_CODES))
_RESULT: Final = in_order(("result",))


def flags(levels: list[dict[str, object]]) -> Iterator[str]:
    """Yields the statuses that flags, exit codes and times of an end mean."""
    for level in levels:
        if (meaning := _meaning_of_flags(level)) is not None:
            yield meaning
        yield from ("success" if code == 0 else "failed" for code in _numbers(level.get(c) for c in EXIT_CODES))
    yield from ("resolved" for time in matching(levels, OVER_TIME) if time and time != "0")
    for level in levels:
        texts = (level[name] for name in OVER_TEXTS & level.keys())
        yield from ("resolved" for text in texts if isinstance(text, str) and _is_yes(text))


def _meaning_of_flags(level: dict[str, object]) -> str | None:
    """Returns what the flags of an object mean: if they disagree, that it began, unless one says that it ended."""
    meanings = set()
    for name, value in level.items():
        if isinstance(value, int) and type(value) is not bool and name in COUNTED:
            continue
        if not isinstance(value, str | int) or (is_true := TRUTHS.get(str(value).casefold())) is None:
            continue
        if is_true and ENDED_FLAG[name]:
            return "resolved"
        if BEGAN_FLAG[name]:
            meanings.add("open" if is_true else "resolved")
        elif WELL_FLAG[name] or ENDED_FLAG[name] or (value is False and OVER_TIME[name]):
            meanings.add("resolved" if is_true else "open")
    return min(meanings, default=None)


def edges(levels: list[dict[str, object]]) -> Iterator[str]:
    """Yields what a sensor says that is "on" while it reports something; any other thing that is "off" may be dead."""
    for level in levels:
        status = next((level[name] for name in _EDGES if name in level), None)
        word = status.casefold() if isinstance(status, str) else ""
        if word in _SWITCHED and _is_sensor(level):
            yield _SWITCHED[word]


def conditions(levels: list[dict[str, object]]) -> Iterator[str]:
    """Yields what conditions as those of Kubernetes say: `{"type": "Succeeded", "status": "False"}`."""
    for level in levels:
        kind, status = level.get("type", level.get("condition")), level.get("status")
        if isinstance(kind, str) and status in _TRUTHS and (meaning := meaning_of(kind)) in _ACTING:
            yield "resolved" if _TRUTHS[status] is (meaning is StatusMeaning.CLOSE) else "failed"


def _is_sensor(level: dict[str, object]) -> bool:
    names = (level.get(name) for name in _SENSOR_NAMES)
    return any(isinstance(name, str) and _SENSOR.search(name) for name in names)


def _is_yes(text: str) -> bool:
    return TRUTHS.get(text.casefold()) is not False and len(text) <= _MAX_YES_CHARS and "://" not in text


def _numbers(values: Iterator[object]) -> Iterator[float]:
    return (value for value in values if isinstance(value, int | float) and type(value) is not bool)


def outcomes(objects: MessageObjects) -> Iterator[str]:
    """Yields the outcomes beside a status. A number other than 0 is a failure of a run."""
    yield from texts_of([*objects.texts, *objects.inner], FOLDED_OUTCOMES)
    numbers = chain(find_any(objects.levels, _RESULTS), find_any(objects.runs, _RESULT))
    yield from ("failed" for number in _numbers(numbers) if number != 0)
