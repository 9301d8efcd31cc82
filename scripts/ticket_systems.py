"""Writes docs/reference/ticket-systems.md: what goes which way with each ticket system, and every key of
`outbound.toml`. Run by `make reference`. A test says when the file is out of date.
"""

from pathlib import Path

from yaml_reference import _section, _title, _without_aliases

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "reference" / "ticket-systems.md"

INTRODUCTION = """\
# Ticket systems: what goes which way

Alerts open, change and close by the system's webhook ([the catalogue](catalogue.md)). This table says what Tocsin
writes back. HaloITSM has a connector of its own ([HaloITSM](../how-to/haloitsm.md)); each other system is described by
a file.

✓: tried with a real server. d: tried with a double that answers with the shapes of the vendor's documentation, and
not with the vendor's own server.

"""

KEYS = """

## Keys of outbound.toml

[How to add a ticket system](../how-to/ticket-systems.md#add-a-ticket-system-of-your-own) shows them in use.

"""


def main() -> None:
    DOCUMENT.write_text(document(), encoding="utf-8")


def document() -> str:
    from tocsin.catalogue import desks

    schema = desks.DeskSpec.json_schema()
    nested = schema.pop("$defs", {})
    objects = {name: _without_aliases(one, nested) for name, one in nested.items() if "properties" in one}
    sections = [_section("### The file", _without_aliases(schema, nested))]
    sections += [_section(f"### {_title(name)}", objects[name]) for name in sorted(objects, key=_title)]
    return INTRODUCTION + desks.table() + KEYS + "".join(sections)


if __name__ == "__main__":
    main()
