"""Who may sign in with a password, by the setting `sign_in`, and the break-glass accounts that always may."""

from __future__ import annotations

from typing import Any

from tocsin.access.roles import Role
from tocsin.core.config import settings_store
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Person, ReasonType
from tocsin.people.models import User

_NO_BREAK_GLASS = ReasonType(
    "sign_in.no_break_glass",
    "First mark an active administrator who has a password as a break-glass account: if single sign-on failed, no one "
    "could sign in.",
)
_LAST_BREAK_GLASS = ReasonType(
    "sign_in.last_break_glass",
    "{user} is the last administrator who can sign in if single sign-on fails. Mark another one as a break-glass "
    "account first.",
)


def requires_single_sign_on() -> bool:
    """Returns whether passwords are disabled, except for break-glass accounts."""
    return settings_store.get(settings_store.SIGN_IN) == settings_store.SSO_ONLY


def may_use_password(user: User) -> bool:
    """Returns whether `user` may sign in with a password, set one, and be invited to."""
    return user.is_break_glass or not requires_single_sign_on()


def has_break_glass(*, except_for: User | None = None) -> bool:
    """Returns whether an active administrator, besides `except_for`, can sign in without single sign-on."""
    accounts = User.objects.filter(role=Role.ADMIN, is_active=True, is_break_glass=True)
    return any(user.has_usable_password() for user in accounts if except_for is None or user.pk != except_for.pk)


def is_last_break_glass(user: User) -> bool:
    """Returns whether `user` is the only one who can sign in if single sign-on fails, and passwords are disabled."""
    is_one = user.is_break_glass and user.is_active and user.role == Role.ADMIN
    return is_one and requires_single_sign_on() and not has_break_glass(except_for=user)


def reject_last_break_glass(user: User) -> None:
    """Raises `Rejected("last_break_glass")` if `user` must stay as it is."""
    if is_last_break_glass(user):
        reason = _LAST_BREAK_GLASS(user=Person(user.username, user.pk))
        raise Rejected("last_break_glass", reason, "break_glass")


def check_settings(values: dict[str, Any]) -> None:
    """Raises `Rejected("no_break_glass")` if the new settings would lock everyone out while a provider fails."""
    if values.get("sign_in") == settings_store.SSO_ONLY and not has_break_glass():
        raise Rejected("no_break_glass", _NO_BREAK_GLASS(), "sign_in")
