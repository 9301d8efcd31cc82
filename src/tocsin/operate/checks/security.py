"""Checks whether stored data still needs an older secret key, whether the audit log is as it was written, and whether
the certificates of identity providers last."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from tocsin.access.audit_log import forwarding, links
from tocsin.access.audit_log.chain import Damage
from tocsin.core.config import crypto
from tocsin.core.db.database import Connection
from tocsin.core.reasons import ReasonType
from tocsin.identity.models import IdentityProvider
from tocsin.identity.presets import ProviderProtocol
from tocsin.identity.saml.metadata import last_expiry
from tocsin.operate.encryption import rotation
from tocsin.operate.finding import HealthFinding, note

_NODE_WITHOUT_KEY = ReasonType("health.node_without_key", "Node {node} does not have the newest secret key.")
_NODE_WITHOUT_KEY_REMEDY = ReasonType(
    "health.node_without_key_remedy", "Restart it with that key first in TOCSIN_SECRET_KEY."
)
_OLD_KEY = ReasonType("health.old_key", "Still encrypted with an older secret key: {values}.")
_OLD_KEY_REMEDY = ReasonType("health.old_key_remedy", "Run `tocsin keys rotate`.")
_UNUSED = ReasonType("health.old_key_unused", "No stored data uses an older secret key.")
_UNUSED_REMEDY = ReasonType(
    "health.old_key_unused_remedy",
    "Remove it once links in earlier pages have expired (7 days), or immediately if it was leaked.",
)

#: An entry is linked within seconds. After this time, the task does not run.
_MAX_UNLINKED = timedelta(minutes=10)

_DAMAGES = {
    Damage.MISSING: ReasonType("health.audit_missing", "The audit log lacks its entry number {sequence}."),
    Damage.CHANGED: ReasonType("health.audit_changed", "The entry {entry} of the audit log was changed afterwards."),
    Damage.ERASED: ReasonType(
        "health.audit_erased", "The entry {entry} of the audit log was changed, and no erasure explains it."
    ),
}
_REMEDY = ReasonType(
    "health.audit_broken_remedy",
    "The table access_auditentry was changed in the database. Compare it with a backup or what was forwarded, and "
    "find out who has access.",
)
_UNLINKED = ReasonType("health.audit_unlinked", "Entries of the audit log since {since} are in no hash chain yet.")
_UNLINKED_REMEDY = ReasonType(
    "health.audit_unlinked_remedy", "A worker links them. Check whether one runs, and its log for an error."
)


#: A receiver may be away for so long, such as during an update of it.
_MAX_FORWARDING_FAILURE = timedelta(minutes=10)

_NOT_FORWARDED = ReasonType("health.audit_not_forwarded", "The audit log is not forwarded since {since}: {problem}")
_NOT_FORWARDED_REMEDY = ReasonType(
    "health.audit_not_forwarded_remedy",
    "Check the receiver and the setting audit_forwarding. Nothing is lost: what waits is sent later.",
)


#: Long enough to get a new certificate from whoever runs the provider.
_EXPIRY_NOTICE = timedelta(days=30)

_CERTIFICATE_ENDS = ReasonType(
    "health.saml_certificate_ends",
    "The last certificate of the identity provider {provider} ends {at}: no one can sign in by it afterwards.",
)
_CERTIFICATE_ENDS_REMEDY = ReasonType(
    "health.saml_certificate_ends_remedy",
    "Enter the provider's next certificate beside the present one, or its metadata URL, in Settings, Single sign-on.",
)


def check_certificates(now: datetime) -> Iterator[HealthFinding]:
    """Names the SAML providers whose stored certificates end soon. Those in metadata at a URL are followed."""
    for provider in IdentityProvider.objects.filter(kind=ProviderProtocol.SAML, is_enabled=True):
        ends = last_expiry(provider.saml.get("certificates", ()))
        if ends is not None and ends < now + _EXPIRY_NOTICE and "metadata_url" not in provider.saml:
            yield HealthFinding(
                "identity.certificate_ends",
                _CERTIFICATE_ENDS(provider=provider.name, at=ends),
                _CERTIFICATE_ENDS_REMEDY(),
                about=provider.name,
                object_id=provider.pk,
            )


def check_keys(connection: Connection) -> Iterator[HealthFinding]:
    """With several keys: reports what still needs older ones, and nodes without the newest one."""
    if len(crypto.keys()) < 2:
        return
    for name in rotation.nodes_without_newest_key(connection):
        yield HealthFinding(
            "secrets.node_without_key",
            _NODE_WITHOUT_KEY(node=name),
            _NODE_WITHOUT_KEY_REMEDY(),
            about=name,
        )
    remaining = rotation.count(connection)
    if remaining.old:
        yield note("secrets.old_key", _OLD_KEY(values=remaining.old_values), _OLD_KEY_REMEDY())
    else:
        yield note("secrets.old_key_unused", _UNUSED(), _UNUSED_REMEDY())


def check_audit_log(connection: Connection, now: datetime) -> Iterator[HealthFinding]:
    """Verifies the whole hash chain, and names the first broken entry."""
    broken = links.find_broken_link(connection)
    if broken is not None:
        kind = _DAMAGES[broken.damage]
        reason = kind(entry=broken.entry_id) if broken.entry_id is not None else kind(sequence=broken.sequence)
        yield HealthFinding("audit.broken_chain", reason, _REMEDY())
    since = links.unlinked_since(connection)
    if since is not None and since < now - _MAX_UNLINKED:
        yield HealthFinding("audit.unlinked", _UNLINKED(since=since), _UNLINKED_REMEDY())


def check_forwarding(connection: Connection, now: datetime) -> Iterator[HealthFinding]:
    """Says when the audit log could not be forwarded for some time."""
    failed = forwarding.failure(connection)
    if failed is not None and failed[0] < now - _MAX_FORWARDING_FAILURE:
        reason = _NOT_FORWARDED(since=failed[0], problem=failed[1])
        yield HealthFinding("audit.not_forwarded", reason, _NOT_FORWARDED_REMEDY())
