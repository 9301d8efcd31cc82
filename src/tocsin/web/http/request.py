"""The request type that views rely on, and the rendering of a view or one of its partials."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.utils.http import url_has_allowed_host_and_scheme

from tocsin.people.models import User
from tocsin.people.permissions import Viewer

#: Request header that names the partial to render instead of the whole view.
PARTIAL_HEADER = "X-Part"
#: Request header that htmx sets on every request it makes.
HTMX_HEADER = "HX-Request"


class SignedInRequest(HttpRequest):
    """A request of a signed-in user. `now` is read once, by the middleware."""

    user: User
    now: datetime
    #: The user's permissions, loaded on first use.
    viewer: Viewer
    #: Request id that the user quotes when a view fails.
    id: str


def render_view(
    request: HttpRequest,
    template: str,
    context: Mapping[str, Any],
    *,
    partials: tuple[str, ...] = (),
    status: int = 200,
) -> HttpResponse:
    """Render `template`, or only the partial of it that the `X-Part` header names, if that is one of `partials`."""
    partial = request.headers.get(PARTIAL_HEADER, "")
    name = f"{template}#{partial}" if partial in partials else template
    response = render(request, name, dict(context), status=status)
    patch_vary_headers(response, [PARTIAL_HEADER])
    response.setdefault("Cache-Control", "private, no-cache")
    return response


def address_of(request: HttpRequest) -> str | None:
    """Return the client's IP address as determined by the proxy process, or None."""
    return request.META.get("REMOTE_ADDR") or None


def next_url(request: HttpRequest, default: str) -> str:
    """Return the local URL that the form names in `next`, else `default`."""
    return local_url(request.POST.get("next", ""), default)


def local_url(target: str, default: str) -> str:
    """Return `target` if it is a path of this installation, else `default`: no link leads elsewhere after a sign-in."""
    is_local = url_has_allowed_host_and_scheme(target, allowed_hosts=None)
    return target if target.startswith("/") and is_local else default


def moment_of(request: HttpRequest) -> datetime:
    """Return the time of the request, which the middleware read once."""
    now: datetime = request.now  # type: ignore[attr-defined]
    return now
