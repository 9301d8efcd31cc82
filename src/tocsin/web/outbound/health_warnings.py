"""Problems with outbound integrations, for Home."""

from __future__ import annotations

from collections.abc import Iterator

from django.urls import reverse

from tocsin.core.db import database
from tocsin.outbound import health


def find_warnings() -> Iterator[tuple[str, str, bool]]:
    """Yield (sentence, URL that resolves it, urgent) for each."""
    with database.pool().connection() as connection:
        problems = list(health.find_problems(connection))
    for problem in problems:
        url = reverse("outbound", args=[problem.integration_id])
        if problem.kind == "dead":
            url = f"{reverse('outbound_log', args=[problem.integration_id])}?show=dead"
        yield problem.reason.localized(), url, problem.is_urgent
