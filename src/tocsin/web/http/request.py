"""What every view can rely on in a request, and how a page or one of its parts is answered."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers

from tocsin.people.models import User

#: The header by which a page asks for one of its own parts.
PART = "X-Part"
#: The header that htmx sends with whatever it puts into a page.
IN_PLACE = "HX-Request"


class SignedInRequest(HttpRequest):
    """A request of somebody who is signed in. `now` is read once, by the middleware."""

    user: User
    now: datetime
    #: What a person quotes when a page fails.
    id: str


def page(
    request: HttpRequest,
    template: str,
    context: Mapping[str, Any],
    *,
    parts: tuple[str, ...] = (),
    status: int = 200,
) -> HttpResponse:
    """The page, or the one of its `parts` (partials of the same template) that the request's header names."""
    asked = request.headers.get(PART, "")
    name = f"{template}#{asked}" if asked in parts else template
    response = render(request, name, dict(context), status=status)
    patch_vary_headers(response, [PART])
    response.setdefault("Cache-Control", "private, no-cache")
    return response


def address_of(request: HttpRequest) -> str | None:
    """Where a request came from, as the front door worked it out."""
    return request.META.get("REMOTE_ADDR") or None


def moment_of(request: HttpRequest) -> datetime:
    """When a request came: read once, by the middleware."""
    now: datetime = request.now  # type: ignore[attr-defined]
    return now
