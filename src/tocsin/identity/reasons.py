"""Why a sign-in by an identity provider is refused, and what a sign-in changed."""

from __future__ import annotations

from tocsin.core.reasons import Text

# Problems of a provider's configuration. Each completes a sentence that begins with the key.
PRESET_ISSUER = Text('replace the part in capitals: the issuer is like "{form}", with your own values.')
NOT_HTTPS = Text("must begin with https://, unless private addresses are allowed for this provider.")
DOMAINS_NEEDED = Text(
    "is required: this provider does not say whether an email address is verified, so only these domains are trusted."
)
SIMILAR_NAME = Text('is too similar to "{name}": both would have the same redirect URI.')

SAML_NOT_INSTALLED = Text(
    'saml needs packages that are not installed: run pip install "tocsin[saml]" and restart Tocsin.'
)
NOT_METADATA = Text("are not the SAML metadata of an identity provider.")
OTHER_METADATA = Text('are of "{found}", and not of "{expected}": correct the issuer.')
NO_CERTIFICATE = Text("have no certificate to check signatures with.")
NOT_A_CERTIFICATE = Text("is not an X.509 certificate in PEM form.")
WEAK_KEY = Text("have an RSA key of {bits} bits; at least {minimum} are needed. Enter a new one.")
WEAK_SIGNATURE = Text("The provider signs with an RSA key of {bits} bits; at least {minimum} are needed.")
CERTIFICATE_EXPIRED = Text("have no certificate that is valid now: the last one ends {at}. Enter the new one.")

# Problems of the exchange with a provider.
UNREACHABLE = Text("{provider} does not answer: {error}")
BAD_RESPONSE = Text("{provider} answered {url} with {status} and no usable document.")
WRONG_ISSUER = Text('The issuer is "{found}", and not "{expected}". Correct the issuer of the provider.')
ENDPOINT_MISSING = Text("The provider's discovery document has no {name}.")
WRONG_SECRET = Text("{provider} rejected the client ID or the client secret: {error}. Correct client_secret.")
BAD_METADATA = Text("The SAML metadata of {provider} {problem}")
CODE_REJECTED = Text("{provider} rejected the sign-in: {error}.")
PROVIDER_ERROR = Text("{provider} ended the sign-in: {error}.")
CANCELLED = Text("The sign-in was cancelled at {provider}.")
STATE_UNKNOWN = Text("This sign-in was not started in this browser, or took longer than ten minutes. Try again.")
ISSUER_PARAMETER = Text("The answer came from another issuer than it was asked of.")

# Problems of a token or assertion.
MALFORMED = Text("The provider's answer cannot be read.")
ALGORITHM = Text('The answer is signed with "{algorithm}", which is not accepted.')
UNKNOWN_KEY = Text("The token is signed with a key that the provider does not publish.")
BAD_SIGNATURE = Text("The signature of the provider's answer is wrong.")
WRONG_AUDIENCE = Text("The provider's answer is not meant for this application.")
EXPIRED = Text("The provider's answer has expired. Compare the clocks of Tocsin and of the provider.")
NOT_YET_VALID = Text("The provider's answer is not valid yet. Compare the clocks of Tocsin and of the provider.")
WRONG_NONCE = Text("The provider's answer belongs to another sign-in.")
CLAIM_MISSING = Text('The provider sent no claim "{claim}".')
INVALID_CLAIM = Text(
    'The provider sent a value of the claim "{claim}" that is not accepted: names are texts without NUL characters, '
    "times are finite numbers."
)
OTHER_USERINFO = Text("The user information belongs to another user than the token.")
REPLAYED = Text("The provider's answer was used before.")
ENCRYPTED = Text("The assertion is encrypted. Disable that at the provider: the connections are encrypted.")
WRONG_RECIPIENT = Text('The answer is meant for "{found}", and not for "{expected}". Correct that at the provider.')
UNKNOWN_CONDITION = Text('The assertion has the unknown condition "{name}".')
TRANSIENT_SUBJECT = Text(
    "The provider sends a NameID that changes at each sign-in. Configure a persistent one, or the email address."
)
UNSOLICITED = Text("The sign-in began at {provider}, which is not allowed. Begin it on this page.")

# What a sign-in becomes.
SIGNS_IN = Text("{user} signs in.")
IS_LINKED = Text("Is linked to {user}, who has the verified address {email}, and signs in.")
ASKS_ADMINISTRATOR = Text(
    "This identity is not linked to {user} yet. An administrator has to approve the link, on the user's page."
)
USER_DISABLED = Text("This account is deactivated. Contact an administrator.")
EMAIL_UNVERIFIED = Text('The provider does not confirm the address {email}: the claim "email_verified" is not true.')
OTHER_SUBJECT = Text("{user} is linked to another identity at {provider}. An administrator can remove that link.")
NO_ACCOUNT = Text("There is no account for {email}, and {provider} does not create any. Ask an administrator.")
GROUPS_MISSING = Text(
    'The provider sent no claim "{claim}", so nothing gives access. Configure the provider to send it.'
)
GROUPS_OVERAGE = Text(
    "You are in too many groups: {provider} sent a link instead of their names. Have it send only the groups that "
    "are assigned to this application."
)
LAST_WAY = Text(
    "You could not sign in any more. First set a password, or add a passkey or another provider; or ask an "
    "administrator to remove this link."
)
INVALID_USER = Text("The claims make no valid user: {problem}")
LAST_ADMINISTRATOR = Text("{user} stays administrator, because there would be none left.")
ROLE_DEFAULT = Text("role {role}, the default")
ROLE_GRANTED = Text('role {role}, by "{claim}"')
ROLE_BY_HAND = Text("role {role}, given manually")
LEAVES_GROUP = Text("no longer member of {group}")
