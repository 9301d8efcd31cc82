"""django-allauth's forms in our words; and codes that sign in once."""

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
from tocsin.web.accounts import attempts
from tocsin.web.accounts.forms import PASSWORD_HELP
from tocsin.web.http.request import address_of, moment_of

_LABELS = {
    "oldpassword": _("Password until now"),
    "password": _("Password"),
    "password1": _("New password"),
    "password2": _("New password, once more"),
}


class SignInForm(LoginForm):
    """Username or e-mail, and a password."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        login, password = self.fields["login"], self.fields["password"]
        login.label = _("Username or e-mail")
        login.widget.attrs = {
            "autocomplete": "username webauthn",
            "autocapitalize": "none",
            "spellcheck": "false",
            # The page has nothing else to do.
            "autofocus": True,
        }
        password.widget.attrs = {"autocomplete": "current-password"}
        password.help_text = ""


class PasswordResetRequestForm(ResetPasswordForm):
    """Whose password is forgotten."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["email"].label = _("E-mail")
        self.fields["email"].widget.attrs = {"autocomplete": "email"}


class _PasswordsForm(forms.Form):
    """Passwords under our labels. A placeholder that repeats one tells nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, label in _LABELS.items():
            if name in self.fields:
                self.fields[name].label = label
                self.fields[name].widget.attrs.pop("placeholder", None)
        if "password1" in self.fields:
            self.fields["password1"].help_text = PASSWORD_HELP


class NewPasswordForm(_PasswordsForm, ChangePasswordForm):
    """A new password, after the old one."""


class PasswordResetConfirmForm(_PasswordsForm, ResetPasswordKeyForm):
    """A new password, by the link of a mail."""


class ReauthenticatePasswordForm(_PasswordsForm, PasswordAgainForm):
    """The password before something that matters."""


class ActivateCodeForm(ActivateTOTPForm):
    """The first code of an authenticator app. It is used up too: it does not sign in."""

    def clean_code(self) -> str:
        code: str = super().clean_code()
        if not second_factors.use_up(self.user, normalize_user_code(code), now=moment_of(context.request)):
            raise get_adapter().validation_error("incorrect_code")
        return code


class _OnceForm(BaseAuthenticateForm):
    """A code is taken once for as long as it fits, by whatever process: the library forgets it after one step. And
    wrong codes are counted as wrong passwords are: who has stolen a password locks nobody out of a known device."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].widget.attrs.pop("placeholder", None)

    def clean_code(self) -> str:
        code: str = self.cleaned_data["code"]
        said, now = normalize_user_code(code), moment_of(context.request)
        # A used code counts as a guess: else whoever saw one could guess the next without end.
        counted = attempts.count(context.request, self.user)
        if counted is None:
            raise get_account_adapter().validation_error("too_many_login_attempts")
        if not second_factors.is_used_up(self.user, said, now=now):
            known = Authenticator.objects.filter(user=self.user).exclude(type=Authenticator.Type.WEBAUTHN)
            for authenticator in known:
                if authenticator.wrap().validate_code(code) and second_factors.use_up(self.user, said, now=now):
                    authenticator.user = self.user
                    self.authenticator = authenticator
                    counted.rollback()
                    return code
        raise get_adapter().validation_error("incorrect_code")


class SecondFactorForm(_OnceForm, AuthenticateForm):
    """The code after the password. A wrong one is recorded: whoever gets so far has somebody's password."""

    def clean_code(self) -> str:
        try:
            return super().clean_code()
        except forms.ValidationError as error:
            if error.code != "too_many_login_attempts":
                request = context.request
                address, now = address_of(request), moment_of(request)
                audit.record_sign_in(self.user, self.user.username, succeeded=False, address=address, now=now)
            raise


class ReauthenticateCodeForm(_OnceForm, ReauthenticateForm):
    """The code before something that matters."""


def _validate_line(text: str) -> None:
    if has_control_character(text):
        raise forms.ValidationError(_("A name has no line breaks or control characters in it."), code="invalid")


class AddSecurityKeyForm(AddWebAuthnForm):
    """A new passkey or security key."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].label = _("Name")
        self.fields["name"].validators.append(_validate_line)
        self.fields["name"].help_text = _("What you know it by, such as the device that it is on.")
        by_itself = self.fields["passwordless"]
        by_itself.label = _("It signs in by itself, without the password")
        by_itself.help_text = _("It then asks for a fingerprint, a face or a PIN. Older security keys cannot do this.")
        # What nearly every phone and computer can do, and what a passkey is for.
        by_itself.initial = True


class RenameSecurityKeyForm(EditWebAuthnForm):
    """Another name for a key."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].label = _("Name")
        self.fields["name"].validators.append(_validate_line)
