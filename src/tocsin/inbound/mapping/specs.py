"""How a mapping is written. `inbound.mapping.value_source` and `inbound.mapping.mapping` validate and compile it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field, create_model

from tocsin.core.validation.spec import Spec
from tocsin.core.validation.spec_types import ListOf, OneOf, Parsed
from tocsin.inbound.expressions.conditions import Condition
from tocsin.inbound.expressions.fields import FIELDS

MAX_TEXT = 5000


class ValueType(StrEnum):
    """The types of value that `only` accepts."""

    TEXT = "text"  # a text or number: no object, list, true or false
    WORDS = "words"  # a text that is not a number
    NUMBER = "number"  # a number, or a text that is one
    INTEGER = "integer"  # a whole number, or a text that is one: 7, "7", 7.0, "0007" all give 7
    POSITIVE = "positive"  # a whole number above 0, like ids
    GUID = "guid"
    DATE = "date"  # a date that is set (not 1900-01-01)
    EMAIL = "email"


_Text = Annotated[str, Field(max_length=MAX_TEXT)]
_SCALAR = {"type": ["string", "number", "boolean"]}
_Scalars = Annotated[Any, Parsed(lambda value: value, {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]})]


class ValueSourceSpec(Spec):
    """Where the value of a field comes from: exactly one of `path`, `paths`, `template` and `literal`."""

    path: _Text = Field(default="", description="Path in the message, such as `ticket^status^name`.")
    paths: ListOf[_Text] = Field(default=(), description="Paths, of which the first with a value is used.")
    template: _Text = Field(default="", description="Text with paths in brackets, such as `<ticket^summary>`.")
    literal: _Scalars = Field(default=None, description="Fixed value.")
    between: _Text | ListOf[_Text] = Field(
        default=(), description="Texts before and after the part that is used; the second may be left out."
    )
    pattern: _Text = Field(default="", description="Pattern (RE2) of the part that is used.")
    group: _Text | int = Field(default=0, description="Name or number of the pattern's group that is used.")
    only: Annotated[ValueType, OneOf()] | None = Field(
        default=None, description="Type of value that is used; another one counts as no value."
    )
    nobody: _Scalars = Field(default=None, description="Values that mean that no one is assigned.")
    map: _Text | dict[str, _Text] | None = Field(
        default=None, description="Values to translate, or the name of a setting that holds them."
    )
    default: _Text = Field(
        default="", alias="else", description="Value instead of one that is not translated; `<value>` stands for it."
    )
    when: Condition | None = Field(default=None, description="Condition on paths without which it has no value.")


type ValueSource = _Text | ValueSourceSpec | list[_Text | ValueSourceSpec]


class _OtherFields(Spec):
    # Further names are custom fields of the kind.
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, ValueSource]

    tags: dict[str, ValueSource] = Field(default={}, description="Sources of tags by name.")
    custom: dict[str, ValueSource] = Field(default={}, description="Sources of custom fields by name.")


_STANDARD_FIELDS: dict[str, Any] = {
    name: (ValueSource | None, Field(default=None, description=f"Source of the field {field.label}."))
    for name, field in FIELDS.items()
}

MappingSpec = create_model(
    "MappingSpec",
    __base__=_OtherFields,
    __doc__="Where the values of an alert's fields come from. An omitted field is mapped as the kind maps it.",
    __module__=__name__,
    **_STANDARD_FIELDS,
)
