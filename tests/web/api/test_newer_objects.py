"""Objects that a newer version wrote are named as unreadable, and every other object is shown."""

from __future__ import annotations

import pytest
from django.db import connection

from tests.support import api_rows
from tests.web.api.conftest import Api, Company
from tocsin.configure.plan import export_configuration
from tocsin.core.errors import Rejected

#: By resource: a statement that makes its newest row one of a newer version.
NEWER = [
    (
        "workflows",
        """UPDATE workflows_workflow SET definition = jsonb_set(definition, '{trigger,on}', '"sunset"'),
        trigger = 'sunset' WHERE id = %s""",
    ),
    (
        "workflows",
        """UPDATE workflows_workflow SET definition = jsonb_set(definition, '{actions,0,do}', '"sing"')
        WHERE id = %s""",
    ),
    (
        "workflows",
        """UPDATE workflows_workflow SET definition = definition || '{"start": {"moon": "full"}}' WHERE id = %s""",
    ),
    (
        "escalation-policies",
        """UPDATE escalation_policyversion SET definition = jsonb_set(definition, '{steps,0,notify}', '{"bots": [1]}')
        WHERE policy_id = %s""",
    ),
    (
        "maintenance-windows",
        """UPDATE inbound_maintenancewindow SET condition = '{"moon": "full"}' WHERE id = %s""",
    ),
    (
        "integrations",
        "UPDATE inbound_integration SET kind = 'sundial' WHERE id = %s",
    ),
    (
        "outbound-integrations",
        "UPDATE outbound_outboundintegration SET kind = 'sundial' WHERE id = %s",
    ),
    (
        "providers",
        "UPDATE notify_provider SET kind = 'sundial' WHERE id = %s",
    ),
]
IDS = ["trigger", "action", "condition", "policy", "window", "integration", "outbound", "provider"]


@pytest.mark.parametrize(("path", "statement"), NEWER, ids=IDS)
def test_only_the_unreadable_object_is_left_out(path: str, statement: str, company: Company, admin: Api) -> None:
    api_rows.fill(company, 2)
    before = admin.get(path).body
    assert "unreadable" not in before
    *others, newest = before["items"]
    _write(statement, newest["id"])
    listed = admin.get(path).body
    assert listed["items"] == others
    (unreadable,) = listed["unreadable"]
    assert (unreadable["id"], unreadable["name"]) == (newest["id"], newest["name"])
    assert unreadable["reason"]["text"]


@pytest.mark.parametrize(("path", "statement"), NEWER, ids=IDS)
def test_an_unreadable_object_can_be_deleted_not_changed(
    path: str, statement: str, company: Company, admin: Api
) -> None:
    api_rows.fill(company, 1)
    newest = admin.get(path).body["items"][-1]
    for route in admin.get("call-routes").body["items"]:
        admin.delete(f"call-routes/{route['id']}")
    _write(statement, newest["id"])
    one = f"{path}/{newest['id']}"
    for answer in (admin.get(one), admin.patch(one, {"name": "Other"})):
        assert (answer.status, answer.body["error"]) == (409, "unreadable")
    is_used = path not in ("workflows", "maintenance-windows", "providers")
    assert admin.delete(one).status == (409 if is_used else 204)
    assert admin.get(one).body["error"] == ("unreadable" if is_used else "not_found")


@pytest.mark.parametrize(("path", "statement"), NEWER, ids=IDS)
def test_the_export_names_an_unreadable_object(path: str, statement: str, company: Company, admin: Api) -> None:
    api_rows.fill(company, 1)
    newest = admin.get(path).body["items"][-1]
    _write(statement, newest["id"])
    with pytest.raises(Rejected) as rejected:
        export_configuration(with_secrets=False)
    assert rejected.value.code == "unreadable"
    assert newest["name"] in rejected.value.detail


@pytest.mark.parametrize("path", ["workflows", "escalation-policies"])
def test_a_replacement_makes_an_object_readable(path: str, company: Company, admin: Api) -> None:
    api_rows.fill(company, 1)
    newest = admin.get(path).body["items"][-1]
    _write(next(statement for resource, statement in NEWER if resource == path), newest["id"])
    replaced = admin.put(f"{path}/{newest['id']}", newest)
    assert replaced.status == 200
    listed = admin.get(path).body
    assert (listed["items"][-1]["id"], "unreadable" in listed) == (newest["id"], False)


def _write(statement: str, number: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, [number])
        assert cursor.rowcount
