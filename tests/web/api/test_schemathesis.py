"""Random requests that fit the OpenAPI document, or almost, get answers that it describes."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.wsgi import get_wsgi_application
from hypothesis import HealthCheck, Phase, given, settings

from tests.web.api.conftest import Api

#: Operations that ask other servers.
REMOTE = {"system_get_doctor", "imports_create"}


@pytest.mark.long
def test_random_requests_get_described_answers(admin: Api) -> None:
    # Here, because every process that collects tests would wait seconds for it.
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", get_wsgi_application())
    headers = {"Authorization": f"Bearer {admin.token}", "Accept-Encoding": "identity"}
    failures: list[str] = []

    def attempt(case: Any) -> None:
        response = case.call(headers=headers)
        case.validate_response(response, checks=checks)

    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.definition.raw["operationId"] in REMOTE:
            continue
        bounded = settings(
            max_examples=5,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        try:
            bounded(given(case=operation.as_strategy())(attempt))()
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - all of them are reported together
            failures.append(f"{operation.label}: {error}")
    assert failures == []
