"""allauth's forms with Tocsin's labels, and second-factor codes that can be used only once."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

from allauth.account.adapter import get_adapter as get_account_adapter
from allauth.account.auth_backends import AuthenticationBackend
from allauth.account.forms import ChangePasswordForm, LoginForm, ResetPasswordForm, ResetPasswordKeyForm
from allauth.account.forms import ReauthenticateForm as PasswordAgainForm
from allauth.core import context
from allauth.core.internal import ratelimit
from allauth.core.internal.cryptokit import normalize_user_code
from allauth.core.internal.ratelimit import RateLimitUsage
from allauth.mfa.adapter import get_adapter
from allauth.mfa.base.forms import AuthenticateForm, BaseAuthenticateForm, ReauthenticateForm
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.forms import ActivateTOTPForm
from allauth.mfa.webauthn.forms import AddWebAuthnForm, EditWebAuthnForm
from django import forms
from django.contrib.auth.base_user import AbstractBaseUser
from django.core import signing
from django.db.models import Q
from django.http import HttpRequest, HttpResponseBase
from django.utils.translation import gettext_lazy as _

from tocsin.access import audit
from tocsin.core.errors import Rejected
from tocsin.core.validation.inputs import has_control_character
from tocsin.people import sign_in_rules
from tocsin.people.changes import users
from tocsin.people.models import User
from tocsin.people.sign_in_rules import may_use_password
from tocsin.web.http.request import address_of, moment_of
from tocsin.web.ui.forms import ZoneField, problems_of, show_rejection

# ---------- devices
# Known devices: after a sign-in the browser keeps a signed device cookie.
#
# Failed attempts of a known device are counted separately, so that strangers who guess passwords cannot lock its user
# out. The cookie does not sign anybody in. See
# https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies

COOKIE = "tocsin_device"
MAX_AGE = timedelta(days=365)

#: On a shared workstation, the users who signed in most recently.
MAX_USERS = 10

_SALT = "tocsin.device"


def device_of(request: HttpRequest, user: User | None) -> str | None:
    """Return the device id if `user` has signed in with this browser before, else None."""
    return None if user is None else _read_cookie(request).get(user.pk)


def remember(request: HttpRequest, response: HttpResponseBase, user: User) -> None:
    """Make the browser a known device of `user`, who has just signed in."""
    device_ids = _read_cookie(request)
    device = device_ids.pop(user.pk, None) or secrets.token_urlsafe(12)
    entries = [(user.pk, device), *device_ids.items()][:MAX_USERS]
    response.set_cookie(
        COOKIE,
        signing.dumps(entries, salt=_SALT),
        max_age=MAX_AGE,
        httponly=True,
        samesite="Lax",
    )


def _read_cookie(request: HttpRequest) -> dict[int, str]:
    """Return {user id: device id} from the cookie, most recent first."""
    try:
        return dict(signing.loads(request.COOKIES.get(COOKIE, ""), salt=_SALT, max_age=MAX_AGE))
    except (signing.BadSignature, TypeError, ValueError):
        return {}


# ---------- attempts
# Rate limits for wrong passwords and codes: by client address and account, by account, and by known device alone. The
# counters are shared by all nodes.

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


# ---------- passwords
# Checks a name and password with one query and one hash, whether or not the account exists.


def find_account(name: str) -> User | None:
    """Return the user with that username or e-mail address, ignoring the case of A to Z, or None."""
    if "\x00" in name:
        # PostgreSQL rejects a query with NUL.
        return None
    return User.objects.filter(Q(username__login=name) | Q(email__login=name)).order_by("pk").first()


def typed_name(credentials: dict[str, Any]) -> str:
    """Return the typed account name. allauth passes it as an e-mail address, as a username, or as both."""
    return str(credentials.get("email") or credentials.get("username") or "").strip()


class PasswordBackend(AuthenticationBackend):
    """allauth checks the password twice for an e-mail address, so the response time would reveal whether the account
    exists. This backend always checks once."""

    def _authenticate(self, request: HttpRequest | None, **credentials: Any) -> AbstractBaseUser | None:
        user = find_account(typed_name(credentials))
        checked: AbstractBaseUser | None = self._check_password(user, str(credentials.get("password") or ""))
        return checked


_USER_FIELDS = ("name", "email", "username", "time_zone")

PASSWORD_HELP = _("At least ten characters. A few random words are easy to remember.")


def _new_password(label: Any) -> forms.CharField:
    return forms.CharField(
        label=label,
        strip=False,
        max_length=200,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=PASSWORD_HELP,
    )


class SetupForm(forms.Form):
    name = forms.CharField(label=_("Your name"), max_length=200, widget=forms.TextInput(attrs={"autocomplete": "name"}))
    email = forms.EmailField(label=_("Email"), max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "email"}))
    username = forms.CharField(
        label=_("Username"),
        max_length=100,
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}),
        help_text=_("Used to sign in, for example alice."),
    )
    password = _new_password(_("Password"))
    time_zone = ZoneField()

    def spec(self) -> dict[str, Any]:
        return {name: self.cleaned_data[name] for name in _USER_FIELDS if name in self.cleaned_data}

    def clean(self) -> dict[str, Any]:
        """Report all problems at once; an invalid username does not hide a problem with the password."""
        try:
            users.validate_user(self.spec(), password=self.cleaned_data.get("password"))
        except Rejected as rejected:
            for problem in problems_of(rejected):
                if problem.field in self.fields and problem.field not in self.errors:
                    show_rejection(self, problem)
        return self.cleaned_data


class WelcomeForm(forms.Form):
    password = _new_password(_("Choose a password"))
    time_zone = ZoneField()


_LABELS = {
    "oldpassword": _("Current password"),
    "password": _("Password"),
    "password1": _("New password"),
    "password2": _("Confirm new password"),
}


class SignInForm(LoginForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        login, password = self.fields["login"], self.fields["password"]
        login.label = _("Username or email")
        login.widget.attrs = {
            "autocomplete": "username webauthn",
            "autocapitalize": "none",
            "spellcheck": "false",
            # The form is the only content of the view.
            "autofocus": True,
        }
        password.widget.attrs = {"autocomplete": "current-password"}
        password.help_text = ""


class PasswordResetRequestForm(ResetPasswordForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["email"].label = _("Email")
        self.fields["email"].widget.attrs = {"autocomplete": "email"}

    def clean_email(self) -> str:
        """Send nothing to users who may not have a password. The answer is the same for every address."""
        email: str = super().clean_email()
        self.users = [user for user in self.users if may_use_password(user)]
        return email


class _PasswordsForm(forms.Form):
    """Password fields with Tocsin's labels, without placeholders that repeat them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, label in _LABELS.items():
            if name in self.fields:
                self.fields[name].label = label
                self.fields[name].widget.attrs.pop("placeholder", None)
        if "password1" in self.fields:
            self.fields["password1"].help_text = PASSWORD_HELP


class NewPasswordForm(_PasswordsForm, ChangePasswordForm):
    """Changes the password; asks for the current one."""


class PasswordResetConfirmForm(_PasswordsForm, ResetPasswordKeyForm):
    """Sets a new password through the e-mailed link."""


class ReauthenticatePasswordForm(_PasswordsForm, PasswordAgainForm):
    """Asks for the password again before a sensitive action."""


class ActivateCodeForm(ActivateTOTPForm):
    """Activates an authenticator app. The first code is marked as used, so that it cannot sign in."""

    def clean_code(self) -> str:
        code: str = super().clean_code()
        if not sign_in_rules.consume_code(self.user, normalize_user_code(code), now=moment_of(context.request)):
            raise get_adapter().validation_error("incorrect_code")
        return code


class _SingleUseCodeForm(BaseAuthenticateForm):
    """Accepts each code once within its validity, across all processes; allauth remembers a code for only one time
    step.

    Wrong codes count towards the same limits as wrong passwords, so that an attacker with a stolen password cannot lock
    the user out of a known device.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].widget.attrs.pop("placeholder", None)

    def clean_code(self) -> str:
        code: str = self.cleaned_data["code"]
        normalized_code, now = normalize_user_code(code), moment_of(context.request)
        # A used code counts as a guess, else an observer of one code could guess the next without limit.
        usage = count(context.request, self.user)
        if usage is None:
            raise get_account_adapter().validation_error("too_many_login_attempts")
        if not sign_in_rules.is_code_consumed(self.user, normalized_code, now=now):
            authenticators = Authenticator.objects.filter(user=self.user).exclude(type=Authenticator.Type.WEBAUTHN)
            for authenticator in authenticators:
                if authenticator.wrap().validate_code(code) and sign_in_rules.consume_code(
                    self.user, normalized_code, now=now
                ):
                    authenticator.user = self.user
                    self.authenticator = authenticator
                    usage.rollback()
                    return code
        raise get_adapter().validation_error("incorrect_code")


class SecondFactorForm(_SingleUseCodeForm, AuthenticateForm):
    """The code after the password. A wrong code is recorded in the audit log, because the password was already
    right."""

    def clean_code(self) -> str:
        try:
            return super().clean_code()
        except forms.ValidationError as error:
            if error.code != "too_many_login_attempts":
                request = context.request
                address, now = address_of(request), moment_of(request)
                audit.record_sign_in(self.user, self.user.username, succeeded=False, address=address, now=now)
            raise


class ReauthenticateCodeForm(_SingleUseCodeForm, ReauthenticateForm):
    """Asks for a code again before a sensitive action."""


def _validate_no_control_characters(text: str) -> None:
    if has_control_character(text):
        raise forms.ValidationError(_("Names must not contain line breaks or control characters."), code="invalid")


class AddSecurityKeyForm(AddWebAuthnForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].label = _("Name")
        self.fields["name"].validators.append(_validate_no_control_characters)
        self.fields["name"].help_text = _("For example, the device it is on.")
        passwordless = self.fields["passwordless"]
        passwordless.label = _("Sign in without a password")
        passwordless.help_text = _("Requires a fingerprint, face or PIN. Not supported by older security keys.")
        # Nearly every phone and computer supports this, and it is the purpose of a passkey.
        passwordless.initial = True


class RenameSecurityKeyForm(EditWebAuthnForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].label = _("Name")
        self.fields["name"].validators.append(_validate_no_control_characters)
