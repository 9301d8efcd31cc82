"""Jira names an issue's page nowhere, but its address is that of the API: `issue.self`."""

from __future__ import annotations

import re
from typing import Final

from tocsin.catalogue.hooks import Headers, Payload

_API: Final = re.compile(r"(?!https://api\.atlassian\.com/)(https?://[^\s?#]{1,300}?)/rest/(?:api|agile)/[^\s]*")


def messages(payload: Payload, headers: Headers) -> list[Payload]:
    """Adds the address of Jira as `jira_address`, where the body has the API's address of the issue."""
    issue = payload.get("issue", payload)
    match = _API.fullmatch(str(issue.get("self"))) if isinstance(issue, dict) else None
    if match is None or "jira_address" in payload:
        return [payload]
    return [{**payload, "jira_address": match.group(1)}]
