"""Why a body could not be parsed, and what was repaired in it, where several modules of the room say so."""

from __future__ import annotations

from tocsin.core.reasons import ReasonType

#: `line` and `column` are texts: they are places, not counts.
AT_POSITION = ReasonType("json.at_position", "{problem}, at line {line} column {column}")
NOT_JSON = ReasonType("json.not_json", "Not JSON: {problem}")
EMPTY_ARRAY = ReasonType("json.empty_array", "The array is empty: it contains no message")
EMPTY_BODY = ReasonType("json.empty_body", "The body is empty")

RAW_CONTROL_CHARACTER = ReasonType("json.raw_control_character", "a raw control character in a string")
