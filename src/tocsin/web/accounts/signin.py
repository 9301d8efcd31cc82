"""allauth's forms with Tocsin's labels, and second-factor codes that can be used only once."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import get_adapter as get_account_adapter
from allauth.account.forms import ChangePasswordForm, LoginForm, ResetPasswordForm, ResetPasswordKeyForm
from allauth.account.forms import ReauthenticateForm as PasswordAgainForm
from allauth.core import context
from allauth.core.internal.cryptokit import normalize_user_code
from allauth.mfa.adapter import get_adapter
from allauth.mfa.base.forms import AuthenticateForm, BaseAuthenticateForm, ReauthenticateForm
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.forms import ActivateTOTPForm
from allauth.mfa.webauthn.forms import AddWebAuthnForm, EditWebAuthnForm
from django import forms
from django.utils.translation import gettext_lazy as _

from tocsin.access import audit
from tocsin.core.validation.naming_rules import has_control_character
from tocsin.people import second_factors
from tocsin.people.sign_in_rules import may_use_password
from tocsin.web.accounts import attempts
from tocsin.web.accounts.forms import PASSWORD_HELP
from tocsin.web.http.request import address_of, moment_of

_LABELS = {
    "oldpassword": _("Current password"),
    "password": _("Password"),
    "password1": _("New password"),
    "password2": _("Confirm new password"),
}


class SignInForm(LoginForm):
    """Username or e-mail address, and password."""

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
    """Requests a password reset link."""

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
        if not second_factors.consume_code(self.user, normalize_user_code(code), now=moment_of(context.request)):
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
        usage = attempts.count(context.request, self.user)
        if usage is None:
            raise get_account_adapter().validation_error("too_many_login_attempts")
        if not second_factors.is_code_consumed(self.user, normalized_code, now=now):
            authenticators = Authenticator.objects.filter(user=self.user).exclude(type=Authenticator.Type.WEBAUTHN)
            for authenticator in authenticators:
                if authenticator.wrap().validate_code(code) and second_factors.consume_code(
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
    """Adds a passkey or security key."""

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
    """Renames a passkey or security key."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].label = _("Name")
        self.fields["name"].validators.append(_validate_no_control_characters)
