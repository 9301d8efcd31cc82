"""References to named schemas of the OpenAPI document that are not made from a pydantic model."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import WithJsonSchema

COMPONENTS = "#/components/schemas/"
_LIST = "PaginatedList_"

#: Marks a schema that stands for a component, until `spec_schemas.resolve` replaces it.
MARK = "x-component"


@dataclass(frozen=True, slots=True)
class Component:
    """A named schema of the document, for a body or an answer."""

    name: str

    @property
    def is_list(self) -> bool:
        """Whether it is a page of a list."""
        return self.name.startswith(_LIST)

    @property
    def reference(self) -> dict[str, str]:
        """The reference to it."""
        return {"$ref": COMPONENTS + self.name}

    @property
    def listed(self) -> Component:
        """A page of a list of it."""
        return Component(f"{_LIST}{self.name}_")

    @property
    def mark(self) -> dict[str, str]:
        """The schema that stands for it in an operation."""
        return {MARK: self.name}

    @property
    def annotation(self) -> WithJsonSchema:
        """Annotates a field of another schema that contains the object."""
        return WithJsonSchema(self.mark)
