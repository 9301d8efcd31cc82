"""Client tables: their spec, and their conversion from and to CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BeforeValidator, Field

from tocsin.core.errors import Rejected
from tocsin.core.reasons import sentence
from tocsin.core.validation import text_sanitizing
from tocsin.core.validation.field_errors import raise_all
from tocsin.core.validation.spec import OwnedSpec, Reference, Spec, SpecErrors, to_tuple
from tocsin.inbound.admin.references import GROUP, POLICY, UNKNOWN_REFERENCES
from tocsin.inbound.models import ClientTable
from tocsin.people.changes.flat_objects import FlatObject

MAX_CLIENTS = 5_000


_Name = Annotated[str, Field(max_length=200)]


class ClientSpec(Spec):
    """A client."""

    client: str = Field(min_length=1, max_length=200, description="Name or id of the client, as the sender writes it.")
    group: Annotated[_Name | None, Reference("people.Group", UNKNOWN_REFERENCES[GROUP])] = Field(
        default=None, description="Name of the recipient group."
    )
    policy: Annotated[_Name | None, Reference("escalation.Policy", UNKNOWN_REFERENCES[POLICY])] = Field(
        default=None, alias="escalation_policy", description="Name of the escalation policy."
    )

    def check(self, errors: SpecErrors) -> None:
        if not errors and self.group is None and self.policy is None:
            errors.add("group", sentence("name a group or a policy for this client."), "missing")


class ClientTableSpec(OwnedSpec):
    """A client table: recipients by client."""

    clients: Annotated[
        tuple[ClientSpec, ...],
        BeforeValidator(lambda clients: to_tuple(clients, MAX_CLIENTS)),
        Field(json_schema_extra={"maxItems": MAX_CLIENTS}),
    ] = Field(default=(), description="Clients with a group, a policy or both.")

    def check(self, errors: SpecErrors) -> None:
        errors.add_duplicates("clients", (client.client for client in self.clients), "client")


CLIENT_TABLES = FlatObject("client_table", ClientTable, ClientTableSpec)
save_client_table = CLIENT_TABLES.save


def from_csv(text: str) -> list[dict[str, str]]:
    """Parses the clients of a CSV: client, group, policy, separated by commas, semicolons or tabs; skips a header row.

    Raises Rejected that names the row.
    """
    clients: list[dict[str, str]] = []
    problems: list[Rejected] = []
    for row_number, cells in enumerate(text_sanitizing.read(text), start=1):
        if not any(cells) or (
            row_number == 1 and cells[0].casefold() in ("client", "client name", "client_id", "name")
        ):
            continue
        if len(cells) > 3 and any(cells[3:]):
            problems.append(
                Rejected(
                    "invalid", sentence("Row {row} has more than client, group and policy.", row=row_number), "clients"
                )
            )
            continue
        entry = dict(zip(("client", "group", "escalation_policy"), cells, strict=False))
        clients.append({key: value for key, value in entry.items() if value})
    raise_all(problems)
    return clients


def to_csv(clients: Sequence[Mapping[str, str]]) -> str:
    """Returns the clients as CSV, in the form that `from_csv` parses."""
    rows = [[client["client"], client.get("group", ""), client.get("escalation_policy", "")] for client in clients]
    return text_sanitizing.write([["client", "group", "policy"], *rows])
