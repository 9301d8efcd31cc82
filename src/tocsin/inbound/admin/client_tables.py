"""Creates, changes and deletes client tables, with audit log and configuration version; converts them from and to CSV.

A spec is the document form used by YAML and the API. Callers check permissions first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.core.config import settings_store
from tocsin.core.errors import Rejected
from tocsin.core.reasons import sentence
from tocsin.core.validation import text_sanitizing
from tocsin.core.validation.field_errors import raise_all
from tocsin.core.validation.spec import OwnedSpec, Spec, SpecErrors, id_of, to_tuple
from tocsin.escalation.models import Policy
from tocsin.inbound.admin.references import GROUP, POLICY, UNKNOWN_REFERENCES
from tocsin.inbound.models import ClientTable
from tocsin.people.models import Group, find_group, names_check

MAX_CLIENTS = 5_000


class ClientSpec(Spec):
    """A client. Its context has the ids of `groups` and `policies` by name."""

    client: str = Field(min_length=1, max_length=200, description="Name or id of the client, as the sender writes it.")
    group: Annotated[str, Field(max_length=200), id_of("groups", UNKNOWN_REFERENCES[GROUP])] | None = Field(
        default=None, description="Name of the recipient group."
    )
    policy: Annotated[str, Field(max_length=200), id_of("policies", UNKNOWN_REFERENCES[POLICY])] | None = Field(
        default=None, alias="escalation_policy", description="Name of the escalation policy."
    )

    def check(self, errors: SpecErrors) -> None:
        if not errors and self.group is None and self.policy is None:
            errors.add("group", sentence("name a group or a policy for this client."), "missing")

    def stored(self) -> dict[str, Any]:
        """Returns the stored form, with ids."""
        return {key: value for key in ("client", "group", "policy") if (value := getattr(self, key)) is not None}


class ClientTableSpec(OwnedSpec):
    """A client table: recipients by client."""

    clients: Annotated[
        tuple[ClientSpec, ...],
        BeforeValidator(lambda clients: to_tuple(clients, MAX_CLIENTS)),
        Field(json_schema_extra={"maxItems": MAX_CLIENTS}),
    ] = Field(default=(), description="Clients with a group, a policy or both.")

    def check(self, errors: SpecErrors) -> None:
        errors.add_duplicates("clients", (client.client for client in self.clients), "client")


#: The names of groups and of policies, by id.
type ReferenceNamesById = tuple[Mapping[int, str], Mapping[int, str]]


def table_names() -> ReferenceNamesById:
    """Loads the names of all groups and policies, for callers that render several tables."""
    return dict(Group.objects.values_list("pk", "name")), dict(Policy.objects.values_list("pk", "name"))


def client_table_spec(table: ClientTable, names: ReferenceNamesById | None = None) -> dict[str, Any]:
    """Returns the table as a spec."""
    groups, policies = names or table_names()
    spec: dict[str, Any] = {"name": table.name}
    if table.group is not None:
        spec["group"] = table.group.name
    clients = []
    for row in table.clients:
        entry = {"client": row["client"]}
        if row.get("group") in groups:
            entry["group"] = groups[row["group"]]
        if row.get("policy") in policies:
            entry["escalation_policy"] = policies[row["policy"]]
        clients.append(entry)
    return {**spec, "clients": clients}


def save_client_table(
    spec: Mapping[str, object], *, existing: ClientTable | None = None, actor: AuditActor, now: datetime
) -> ClientTable:
    """Creates a table, or updates `existing` to match the spec. Raises Rejected with the field of each problem."""
    with boundary.command():
        settings_store.lock()
        parsed = ClientTableSpec.read(
            spec, check=names_check(ClientTable, existing), groups=_ids(Group), policies=_ids(Policy)
        )
        before = client_table_spec(existing) if existing else None
        table = existing or ClientTable()
        table.name, table.group = parsed.name, find_group(parsed.group)
        table.clients = [client.stored() for client in parsed.clients]
        table.save()
        audit.record_config_audit("client_table", table, before, client_table_spec(table), actor=actor, now=now)
    return table


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


def _ids(model: type[Group] | type[Policy]) -> dict[str, int]:
    with boundary.as_viewer():
        return {name.lower(): number for number, name in model.objects.values_list("pk", "name")}
