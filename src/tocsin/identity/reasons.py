"""Why a sign-in by an identity provider is refused, and what a sign-in changed."""

from __future__ import annotations

from tocsin.core.reasons import ReasonType

# Problems of a provider's configuration. Each completes a sentence that begins with the key.
PRESET_ISSUER = ReasonType(
    "identity.preset_issuer", 'replace the part in capitals: the issuer is like "{form}", with your own values.'
)
NOT_HTTPS = ReasonType(
    "identity.not_https", "must begin with https://, unless private addresses are allowed for this provider."
)
DOMAINS_NEEDED = ReasonType(
    "identity.domains_needed",
    "is required: this provider does not say whether an email address is verified, so only these domains are trusted.",
)
NOT_A_DOMAIN = ReasonType("identity.not_a_domain", '"{value}" is not a domain such as example.org.')
NOT_A_SCOPE = ReasonType("identity.not_a_scope", '"{value}" is not a scope.')
SIMILAR_NAME = ReasonType("identity.similar_name", 'is too similar to "{name}": both would have the same redirect URI.')

KIND_FIXED = ReasonType("identity.kind_fixed", "never changes. Add another provider instead.")
SAML_NOT_INSTALLED = ReasonType(
    "identity.saml_not_installed",
    'saml needs packages that are not installed: run pip install "tocsin[saml]" and restart Tocsin.',
)
METADATA_OR_URL = ReasonType("identity.metadata_or_url", "is not needed: the metadata at metadata_url have it.")
NOT_METADATA = ReasonType("identity.not_metadata", "are not the SAML metadata of an identity provider.")
OTHER_METADATA = ReasonType("identity.other_metadata", 'are of "{found}", and not of "{expected}": correct the issuer.')
METADATA_EXPIRED = ReasonType("identity.metadata_expired", "expired {at}.")
SEVERAL_PROVIDERS = ReasonType("identity.several_providers", "name several identity providers: enter the issuer.")
NO_REDIRECT_BINDING = ReasonType(
    "identity.no_redirect_binding", "name no address for single sign-on with the HTTP-Redirect binding."
)
NO_CERTIFICATE = ReasonType("identity.no_certificate", "have no certificate to check signatures with.")
NOT_A_CERTIFICATE = ReasonType("identity.not_a_certificate", "is not an X.509 certificate in PEM form.")
WEAK_KEY = ReasonType(
    "identity.weak_key", "have an RSA key of {bits} bits; at least {minimum} are needed. Enter a new one."
)
WEAK_SIGNATURE = ReasonType(
    "identity.weak_signature", "The provider signs with an RSA key of {bits} bits; at least {minimum} are needed."
)
CERTIFICATE_EXPIRED = ReasonType(
    "identity.certificate_expired", "have no certificate that is valid now: the last one ends {at}. Enter the new one."
)

# Problems of the exchange with a provider.
UNREACHABLE = ReasonType("identity.unreachable", "{provider} does not answer: {error}")
BAD_RESPONSE = ReasonType("identity.bad_response", "{provider} answered {url} with {status} and no usable document.")
WRONG_ISSUER = ReasonType(
    "identity.wrong_issuer", 'The issuer is "{found}", and not "{expected}". Correct the issuer of the provider.'
)
ENDPOINT_MISSING = ReasonType("identity.endpoint_missing", "The provider's discovery document has no {name}.")
WRONG_SECRET = ReasonType(
    "identity.wrong_secret", "{provider} rejected the client ID or the client secret: {error}. Correct client_secret."
)
BAD_METADATA = ReasonType("identity.bad_metadata", "The SAML metadata of {provider} {problem}")
CODE_REJECTED = ReasonType("identity.code_rejected", "{provider} rejected the sign-in: {error}.")
PROVIDER_ERROR = ReasonType("identity.provider_error", "{provider} ended the sign-in: {error}.")
CANCELLED = ReasonType("identity.cancelled", "The sign-in was cancelled at {provider}.")
STATE_UNKNOWN = ReasonType(
    "identity.state_unknown",
    "This sign-in was not started in this browser, or took longer than ten minutes. Try again.",
)
ISSUER_PARAMETER = ReasonType("identity.issuer_parameter", "The answer came from another issuer than it was asked of.")

# Problems of a token or assertion.
MALFORMED = ReasonType("identity.malformed_token", "The provider's answer cannot be read.")
ALGORITHM = ReasonType("identity.algorithm", 'The answer is signed with "{algorithm}", which is not accepted.')
UNKNOWN_KEY = ReasonType("identity.unknown_key", "The token is signed with a key that the provider does not publish.")
BAD_SIGNATURE = ReasonType("identity.bad_signature", "The signature of the provider's answer is wrong.")
WRONG_AUDIENCE = ReasonType("identity.wrong_audience", "The provider's answer is not meant for this application.")
EXPIRED = ReasonType(
    "identity.expired", "The provider's answer has expired. Compare the clocks of Tocsin and of the provider."
)
NOT_YET_VALID = ReasonType(
    "identity.not_yet_valid",
    "The provider's answer is not valid yet. Compare the clocks of Tocsin and of the provider.",
)
WRONG_NONCE = ReasonType("identity.wrong_nonce", "The provider's answer belongs to another sign-in.")
CLAIM_MISSING = ReasonType("identity.claim_missing", 'The provider sent no claim "{claim}".')
INVALID_CLAIM = ReasonType(
    "identity.invalid_claim",
    'The provider sent a value of the claim "{claim}" that is not accepted: names are texts without NUL characters, '
    "times are finite numbers.",
)
OTHER_USERINFO = ReasonType("identity.other_userinfo", "The user information belongs to another user than the token.")
REPLAYED = ReasonType("identity.replayed", "The provider's answer was used before.")
UNSIGNED = ReasonType("identity.unsigned", "The provider's answer is not signed.")
NOT_ONE_ASSERTION = ReasonType(
    "identity.not_one_assertion", "The provider's answer must have exactly one assertion, directly in the response."
)
ENCRYPTED = ReasonType(
    "identity.encrypted", "The assertion is encrypted. Disable that at the provider: the connections are encrypted."
)
WRONG_RECIPIENT = ReasonType(
    "identity.wrong_recipient",
    'The answer is meant for "{found}", and not for "{expected}". Correct that at the provider.',
)
UNKNOWN_CONDITION = ReasonType("identity.unknown_condition", 'The assertion has the unknown condition "{name}".')
TRANSIENT_SUBJECT = ReasonType(
    "identity.transient_subject",
    "The provider sends a NameID that changes at each sign-in. Configure a persistent one, or the email address.",
)
UNSOLICITED = ReasonType(
    "identity.unsolicited", "The sign-in began at {provider}, which is not allowed. Begin it on this page."
)
NOT_A_LOGOUT = ReasonType("identity.not_a_logout", "The token is not a logout token.")

# What a sign-in becomes.
SIGNS_IN = ReasonType("identity.signs_in", "{user} signs in.")
IS_LINKED = ReasonType("identity.is_linked", "Is linked to {user}, who has the verified address {email}, and signs in.")
ASKS_ADMINISTRATOR = ReasonType(
    "identity.asks_administrator",
    "This identity is not linked to {user} yet. An administrator has to approve the link, on the user's page.",
)
IS_CREATED = ReasonType("identity.is_created", "The user {user} is created and signs in.")
USER_DISABLED = ReasonType("identity.user_disabled", "This account is deactivated. Contact an administrator.")
SERVICE_ACCOUNT = ReasonType("identity.service_account", "{user} is a service account, which never signs in.")
EMAIL_UNVERIFIED = ReasonType(
    "identity.email_unverified",
    'The provider does not confirm the address {email}: the claim "email_verified" is not true.',
)
DOMAIN_NOT_ALLOWED = ReasonType("identity.domain_not_allowed", "Addresses of {domain} may not sign in by {provider}.")
OTHER_SUBJECT = ReasonType(
    "identity.other_subject",
    "{user} is linked to another identity at {provider}. An administrator can remove that link.",
)
NO_ACCOUNT = ReasonType(
    "identity.no_account", "There is no account for {email}, and {provider} does not create any. Ask an administrator."
)
NO_ROLE = ReasonType("identity.no_role", "None of your groups at {provider} gives access. Ask an administrator.")
GROUPS_MISSING = ReasonType(
    "identity.groups_missing",
    'The provider sent no claim "{claim}", so nothing gives access. Configure the provider to send it.',
)
GROUPS_OVERAGE = ReasonType(
    "identity.groups_overage",
    "You are in too many groups: {provider} sent a link instead of their names. Have it send only the groups that "
    "are assigned to this application.",
)
ASKED_AGAIN = ReasonType("identity.asked_again", "Another identity has asked for this link since. Look at it first.")
LAST_WAY = ReasonType(
    "identity.last_sign_in",
    "You could not sign in any more. First set a password, or add a passkey or another provider; or ask an "
    "administrator to remove this link.",
)
INVALID_USER = ReasonType("identity.invalid_user", "The claims make no valid user: {problem}")
LAST_ADMINISTRATOR = ReasonType(
    "identity.last_administrator", "{user} stays administrator, because there would be none left."
)
ROLE_DEFAULT = ReasonType("identity.role_default", "role {role}, the default")
ROLE_GRANTED = ReasonType("identity.role_granted", 'role {role}, by "{claim}"')
ROLE_BY_HAND = ReasonType("identity.role_by_hand", "role {role}, given manually")
JOINS_GROUP = ReasonType("identity.joins_group", 'member of {group}, by "{claim}"')
LEAVES_GROUP = ReasonType("identity.leaves_group", "no longer member of {group}")
