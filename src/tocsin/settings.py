"""Django's settings, derived from Tocsin's own configuration. Users do not change anything here."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf.locale import LANG_INFO
from django.contrib.messages import constants as message_levels
from django.utils.csp import CSP
from django.utils.translation import to_language

from tocsin.core.config import crypto, environment
from tocsin.core.db import database
from tocsin.web.http import assets

CONFIG = environment.current()
PACKAGE = Path(__file__).resolve().parent

DEBUG = CONFIG.debug
_keys = crypto.secret_keys()
# Derived keys, so that sessions and signed links never share a key with secrets at rest.
SECRET_KEY, *SECRET_KEY_FALLBACKS = (hashlib.sha256(f"django:{key}".encode()).hexdigest() for key in _keys)

# The ASGI entry point sets the public host. A request's own Host header is never trusted for links.
ALLOWED_HOSTS = ["*"]
USE_X_FORWARDED_HOST = False
if CONFIG.base_url:
    CSRF_TRUSTED_ORIGINS = [CONFIG.base_url]
_secure = (CONFIG.base_url or "").startswith("https://")
SESSION_COOKIE_NAME = "tocsin_session"
CSRF_COOKIE_NAME = "tocsin_csrf"
SESSION_COOKIE_AGE = 60 * 60 * 24 * 30
SESSION_ENGINE = "tocsin.web.accounts.session_store"
# Sends nothing to other hosts. "no-referrer" would make browsers send `Origin: null` with forms, which CSRF checks
# reject.
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# Sent with encrypted answers only.
SECURE_HSTS_SECONDS = 60 * 60 * 24 * 365
# The ASGI entry point sets this header, and only from a trusted proxy's.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_TOCSIN_PROTO", "https")

INSTALLED_APPS = [
    "tocsin.core",
    "tocsin.access",
    "tocsin.people",
    "tocsin.identity",
    "tocsin.oncall",
    "tocsin.alerts",
    "tocsin.notify",
    "tocsin.escalation",
    "tocsin.inbound",
    "tocsin.outbound",
    "tocsin.workflows",
    "tocsin.calls",
    "tocsin.operate",
    "tocsin.configure",
    "tocsin.web",
    "tocsin",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.humanize",
    "django.contrib.staticfiles",
    "django.forms",
]

MIDDLEWARE = [
    "tocsin.web.http.middleware.RequestTimeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "tocsin.web.http.middleware.StaticFilesMiddleware",
    # Compresses a list of alerts to a tenth, for slow mobile connections. Attacks by response length (BREACH) are
    # mitigated: each response has a random length, and its CSRF token is masked anew.
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.csp.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "tocsin.web.http.middleware.BoundaryMiddleware",
    "tocsin.web.http.middleware.SignInRequiredMiddleware",
    "tocsin.web.http.middleware.UserPreferencesMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "tocsin.web.accounts.session_store.SignedInMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
]

SECURE_CSP = {
    "default-src": [CSP.SELF],
    "script-src": [CSP.SELF],
    "style-src": [CSP.SELF],
    "img-src": [CSP.SELF, "data:"],
    "connect-src": [CSP.SELF],
    "worker-src": [CSP.SELF],
    "object-src": [CSP.NONE],
    "base-uri": [CSP.NONE],
    "form-action": [CSP.SELF],
    "frame-ancestors": [CSP.NONE],
}

ROOT_URLCONF = "tocsin.web.urls"
WSGI_APPLICATION = None

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [PACKAGE / "web" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.template.context_processors.i18n",
                "django.contrib.messages.context_processors.messages",
                "tocsin.web.navigation.shell",
            ],
            "builtins": [
                "django.templatetags.i18n",
                "django.templatetags.static",
                "tocsin.web.templatetags.ui_tags",
            ],
        },
    }
]

# A command names the process's database, the embedded one included, before Django uses it: see cli/session.py.
DATABASES = {
    "default": database.django_settings(database.url_in_use() or CONFIG.database_url or "postgresql:///tocsin")
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "people.User"
# The username is unique, ignoring case, through a constraint that this check does not recognize.
SILENCED_SYSTEM_CHECKS = ["auth.W004"]
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "tocsin.web.accounts.signin.PasswordBackend",
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
CACHES = {
    # django-allauth counts attempts here: one count for all nodes.
    "default": {"BACKEND": "tocsin.access.shared_cache.SharedCache"},
    # Values that a process can recompute.
    "process": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 50_000}},
}
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"

ACCOUNT_ADAPTER = "tocsin.web.accounts.adapter.AccountAdapter"
ACCOUNT_FORMS = {
    "login": "tocsin.web.accounts.signin.SignInForm",
    "reset_password": "tocsin.web.accounts.signin.PasswordResetRequestForm",  # nosec B105 # a class
    "reset_password_from_key": "tocsin.web.accounts.signin.PasswordResetConfirmForm",  # nosec B105 # a class
    "change_password": "tocsin.web.accounts.signin.NewPasswordForm",  # nosec B105 # a class
    "reauthenticate": "tocsin.web.accounts.signin.ReauthenticatePasswordForm",
}
ACCOUNT_PASSWORD_RESET_TOKEN_GENERATOR = "tocsin.web.accounts.session_store.ResetTokenGenerator"  # noqa: S105
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "username*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
# An e-mail to an unknown address would reveal that it is unknown, and Tocsin does not send e-mail to strangers.
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = False
ACCOUNT_PREVENT_ENUMERATION = True
# `web.accounts.signin` counts passwords and codes. This limit covers the rest, such as passkeys.
ACCOUNT_RATE_LIMITS = {"login_failed": "10/m/ip,50/h/key"}
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_DEFAULT_HTTP_PROTOCOL = "https" if _secure else "http"
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_REAUTHENTICATION_REQUIRED = True
MFA_FORMS = {
    "activate_totp": "tocsin.web.accounts.signin.ActivateCodeForm",
    "authenticate": "tocsin.web.accounts.signin.SecondFactorForm",
    "reauthenticate": "tocsin.web.accounts.signin.ReauthenticateCodeForm",
    "add_webauthn": "tocsin.web.accounts.signin.AddSecurityKeyForm",
    "edit_webauthn": "tocsin.web.accounts.signin.RenameSecurityKeyForm",
}
MFA_ADAPTER = "tocsin.web.accounts.adapter.SecondFactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_ALLOW_UNVERIFIED_EMAIL = True
MFA_TOTP_ISSUER = "Tocsin"
MFA_TOTP_TOLERANCE = 1

# Browsers may cache everything below the digest forever: see web/http/assets.py.
STATIC_URL = assets.static_url()
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG
WHITENOISE_IMMUTABLE_FILE_TEST = assets.is_immutable
WHITENOISE_MIMETYPES = {".webmanifest": "application/manifest+json"}

CSRF_FAILURE_VIEW = "tocsin.web.http.middleware.csrf_failed"
FORM_RENDERER = "tocsin.web.ui.forms.FormRenderer"
MESSAGE_TAGS = {
    message_levels.INFO: "",
    message_levels.SUCCESS: "ok",
    message_levels.WARNING: "wait",
    message_levels.ERROR: "now",
}
MAILERS = {"default": {"BACKEND": "tocsin.web.accounts.adapter.AccountMailBackend"}}
DEFAULT_FROM_EMAIL = SERVER_EMAIL = CONFIG.email_from or f"Tocsin <tocsin@{urlsplit(CONFIG.public_url).hostname}>"

LANGUAGE_CODE = "en"
LOCALE_PATHS = [PACKAGE / "web" / "locale"]
# Every language with a catalogue is offered, by its own name; what is not translated yet is shown in English.
_CATALOGUES = sorted(to_language(path.parent.name) for path in LOCALE_PATHS[0].glob("*/LC_MESSAGES"))
LANGUAGES = [("en", "English"), *((code, LANG_INFO[code]["name_local"].title()) for code in _CATALOGUES)]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 1024 * 1024
FILE_UPLOAD_MAX_MEMORY_SIZE = 5 * 1024 * 1024
LOGGING_CONFIG = None
