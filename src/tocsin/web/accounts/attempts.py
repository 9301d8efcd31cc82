"""Rate limits for wrong passwords and codes: by client address and account, by account, and by known device alone. The
counters are shared by all nodes."""

from __future__ import annotations

from allauth.core.internal import ratelimit
from allauth.core.internal.ratelimit import RateLimitUsage
from django.http import HttpRequest

from tocsin.people.models import User
from tocsin.web.accounts.devices import device_of

#: Rate limits for wrong passwords and codes. The account limit stops guessing from many addresses; a single address
#: reaches its own limit first, so that it locks nobody else out. Known devices have a limit of their own.
_RATES = {"device": "5/5m/key", "client": "5/5m/key,20/h/key", "address": "10/m/key", "account": "50/h/key"}


def count_typed(request: HttpRequest, name: str) -> RateLimitUsage | None:
    """Count an attempt for the typed account name, whether or not it exists. Return None if there were too many."""
    by_address = _count(request, "address", _address(request))
    by_name = _count(request, "client", f"typed {_address(request)} {name.casefold()}")
    return _combine_usage(by_address, by_name)


def count(request: HttpRequest, user: User | None, name: str = "") -> RateLimitUsage | None:
    """Count an attempt for the account of `user`, or for an unknown account `name`. Return None if there were
    too many."""
    device = device_of(request, user)
    if device is not None:
        return _count(request, "device", device)
    account = f"unknown {name.casefold()}" if user is None else f"user {user.pk}"
    by_client = _count(request, "client", f"{account} {_address(request)}")
    by_account = _count(request, "account", account) if by_client is not None else None
    return _combine_usage(by_client, by_account)


def _combine_usage(first: RateLimitUsage | None, second: RateLimitUsage | None) -> RateLimitUsage | None:
    return None if first is None or second is None else RateLimitUsage([*first.usage, *second.usage])


def _count(request: HttpRequest, action: str, key: str) -> RateLimitUsage | None:
    return ratelimit.consume(request, app="tocsin", action=action, config=_RATES, key=key)


def _address(request: HttpRequest) -> str:
    return ratelimit.truncate_ip(request.META.get("REMOTE_ADDR") or "")
