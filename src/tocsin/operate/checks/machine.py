"""Checks this machine: disk space, open file limit, key file permissions, and variables for tests only."""

from __future__ import annotations

import ipaddress
import ssl
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tocsin.access import audit_log
from tocsin.access.audit_log import Damage
from tocsin.core.config import crypto, environment
from tocsin.core.config.settings_store import load_backup_status
from tocsin.core.db.database import Connection
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net import egress, http_server
from tocsin.core.net.egress import REDIRECTS, REDIRECTS_SOMEWHERE, SET_FINAL_URL
from tocsin.core.reasons import Ago, Reason, Text, sentence
from tocsin.identity.models import IdentityProvider, ProviderProtocol
from tocsin.identity.saml import last_expiry
from tocsin.operate import encryption, node_heartbeat, self_check
from tocsin.operate.finding import HealthFinding, note
from tocsin.operate.readiness import _folders, check_disk


def check() -> Iterator[HealthFinding]:
    """Checks this machine with this process's configuration."""
    settings = environment.current()
    for folder in _folders(settings):
        yield from check_disk(folder)
    yield from open_files(http_server.attainable())
    if not settings.secret_keys:
        yield from key_file(settings.data_dir / crypto.KEY_FILE)
    if settings.test_clock:
        yield HealthFinding(
            "configuration.test_clock",
            sentence("TOCSIN_TEST_CLOCK is set: anyone who can write to the database can change the time."),
            sentence("Remove the variable; it is for tests."),
        )
    if settings.debug:
        yield HealthFinding(
            "configuration.debug",
            sentence("TOCSIN_DEBUG is set: error pages show settings and code to everyone."),
            sentence("Remove the variable; it is for developers."),
        )


def open_files(limit: int) -> Iterator[HealthFinding]:
    """Checks whether a node with `limit` open files can accept the intended number of connections."""
    if limit < http_server.REQUIRED:
        yield HealthFinding(
            "machine.open_files",
            sentence(
                "The open file limit is {limit}, but {needed} are needed for all connections that Tocsin accepts: "
                "idle senders are disconnected early.",
                limit=limit,
                needed=http_server.REQUIRED,
            ),
            sentence(
                "Raise the hard limit: `LimitNOFILE=65536` in the systemd unit, `--ulimit nofile=65536` for a "
                "container."
            ),
        )


def key_file(path: Path) -> Iterator[HealthFinding]:
    """Checks that only its owner can read the secret key."""
    try:
        file_status = path.stat()
    except OSError:
        return
    if stat.S_IMODE(file_status.st_mode) & 0o077:
        yield HealthFinding(
            "secrets.key_file",
            sentence(
                "{path} (mode {mode}), the key to all stored secrets, is readable by users other than its owner.",
                path=str(path),
                mode=f"{file_status.st_mode & 0o777:04o}",
            ),
            sentence(
                "Run chmod 600 {path}. If others may have read it, rotate all provider credentials.", path=str(path)
            ),
        )


# ---------- backups
# Checks that the last backup is recent.


_NONE = Text("No backup has been made.")
_REMEDY = Text(
    "Run `tocsin backup` every day, from cron for instance. Report a backup made by other means to "
    "/api/v1/system/last-backup."
)


def check_backups(connection: Connection, now: datetime) -> Iterator[HealthFinding]:
    """A problem without a backup for a week; before that, a note that there is none yet."""
    status = load_backup_status(connection, now)
    if status.is_overdue:
        if status.last is None:
            yield HealthFinding("backup.none", _NONE(), _REMEDY())
        else:
            ago, location = Ago(status.unsaved_for), status.last.location
            detail = sentence("The last backup was made {ago}: {location}.", ago=ago, location=location)
            yield HealthFinding("backup.old", detail, _REMEDY())
    elif status.last is None:
        yield note("backup.none", _NONE(), _REMEDY())


# ---------- running
# Checks running processes: whether Tocsin runs and is monitored, and what its self-check reports about paging.


_NOTHING = Text("No Tocsin node is running: messages are not accepted, and no one is paged.")
_VERSIONS = Text("Nodes run different versions: {versions}.")


def check_running(connection: Connection) -> Iterator[HealthFinding]:
    """Checks what is running now."""
    nodes = node_heartbeat.load_nodes(connection)
    running_nodes = [node for node in nodes if node.is_alive]
    if not running_nodes:
        yield HealthFinding(
            "running.nothing",
            _NOTHING(),
            sentence("Start `tocsin serve`. Use `tocsin service install` to start it at boot."),
            is_urgent=True,
        )
    for node in nodes:
        if running_nodes and not node.is_alive:
            yield HealthFinding(
                "running.gone",
                sentence(
                    "The node {node} ({role}) sent its last heartbeat {ago} and did not shut down cleanly. Other "
                    "nodes have taken over its work.",
                    node=node.name,
                    role=node.role,
                    ago=Ago(node.age),
                ),
                sentence("Check and restart that server. Dead nodes are removed after an hour."),
                about=node.name,
            )
    if len(versions := sorted({node.version for node in running_nodes})) > 1:
        yield note("running.versions", _VERSIONS(versions=tuple(versions)), sentence("Upgrade the older nodes."))
    yield from _paging(connection, bool(running_nodes))


def _paging(connection: Connection, is_running: bool) -> Iterator[HealthFinding]:
    status = self_check.status_from_problems(connection)
    if is_running and status.silence:
        yield HealthFinding(
            "paging.unwatched",
            status.silence,
            sentence("Start a node with the role worker or all. A new node needs about 30 seconds."),
            is_urgent=True,
        )
    for problem in status.problems if is_running or status.is_recent else ():
        yield HealthFinding(
            f"paging.{problem.id.partition(':')[0]}",
            problem.detail,
            problem.remedy,
            about=problem.id,
            is_urgent=True,
        )
    if environment.current().heartbeat_url is None:
        yield note(
            "heartbeat.none",
            sentence("There is no external heartbeat: no other service notices if this server fails."),
            sentence("Enter the URL of a dead man's switch in Settings, or set TOCSIN_HEARTBEAT_URL."),
        )
    elif status.heartbeat_problem:
        yield HealthFinding(
            "heartbeat.failing",
            sentence("The external heartbeat failed: {error}.", error=status.heartbeat_problem),
            sentence("Check its URL (Settings, or TOCSIN_HEARTBEAT_URL), and whether this server can connect to it."),
        )


# ---------- security
# Checks whether stored data still needs an older secret key, whether the audit log is as it was written, and whether
# the certificates of identity providers last.


_NODE_WITHOUT_KEY = Text("Node {node} does not have the newest secret key.")

#: An entry is linked within seconds. After this time, the task does not run.
_MAX_UNLINKED = timedelta(minutes=10)

_DAMAGES = {
    Damage.MISSING: Text("The audit log lacks its entry number {sequence}."),
    Damage.CHANGED: Text("The entry {entry} of the audit log was changed afterwards."),
    Damage.ERASED: Text("The entry {entry} of the audit log was changed, and no erasure explains it."),
}
_UNLINKED = Text("Entries of the audit log since {since} are in no hash chain yet.")


#: A receiver may be away for so long, such as during an update of it.
_MAX_FORWARDING_FAILURE = timedelta(minutes=10)


#: Long enough to get a new certificate from whoever runs the provider.
_EXPIRY_NOTICE = timedelta(days=30)


def check_certificates(now: datetime) -> Iterator[HealthFinding]:
    """Names the SAML providers whose stored certificates end soon. Those in metadata at a URL are followed."""
    for provider in IdentityProvider.objects.filter(kind=ProviderProtocol.SAML, is_enabled=True):
        ends = last_expiry(provider.saml.get("certificates", ()))
        if ends is not None and ends < now + _EXPIRY_NOTICE and "metadata_url" not in provider.saml:
            yield HealthFinding(
                "identity.certificate_ends",
                sentence(
                    "The last certificate of the identity provider {provider} ends {at}: no one can sign in by it "
                    "afterwards.",
                    provider=provider.name,
                    at=ends,
                ),
                sentence(
                    "Enter the provider's next certificate beside the present one, or its metadata URL, in "
                    "Settings, Single sign-on."
                ),
                about=provider.name,
                object_id=provider.pk,
            )


def check_keys(connection: Connection) -> Iterator[HealthFinding]:
    """With several keys: reports what still needs older ones, and nodes without the newest one."""
    if len(crypto.secret_keys()) < 2:
        return
    for name in encryption.nodes_without_newest_key(connection):
        yield HealthFinding(
            "secrets.node_without_key",
            _NODE_WITHOUT_KEY(node=name),
            sentence("Restart it with that key first in TOCSIN_SECRET_KEY."),
            about=name,
        )
    remaining = encryption.count(connection)
    if remaining.old:
        yield note(
            "secrets.old_key",
            sentence("Still encrypted with an older secret key: {values}.", values=remaining.old_values),
            sentence("Run `tocsin keys rotate`."),
        )
    else:
        yield note(
            "secrets.old_key_unused",
            sentence("No stored data uses an older secret key."),
            sentence("Remove it once links in earlier pages have expired (7 days), or immediately if it was leaked."),
        )


def check_audit_log(connection: Connection, now: datetime) -> Iterator[HealthFinding]:
    """Verifies the whole hash chain, and names the first broken entry."""
    broken = audit_log.find_broken_link(connection)
    if broken is not None:
        kind = _DAMAGES[broken.damage]
        reason = kind(entry=broken.entry_id) if broken.entry_id is not None else kind(sequence=broken.sequence)
        remedy = sentence(
            "The table access_auditentry was changed in the database. Compare it with a backup or what was forwarded, "
            "and find out who has access."
        )
        yield HealthFinding("audit.broken_chain", reason, remedy)
    since = audit_log.unlinked_since(connection)
    if since is not None and since < now - _MAX_UNLINKED:
        yield HealthFinding(
            "audit.unlinked",
            _UNLINKED(since=since),
            sentence("A worker links them. Check whether one runs, and its log for an error."),
        )


def check_forwarding(connection: Connection, now: datetime) -> Iterator[HealthFinding]:
    """Says when the audit log could not be forwarded for some time."""
    failed = audit_log.failure(connection)
    if failed is not None and failed[0] < now - _MAX_FORWARDING_FAILURE:
        reason = sentence("The audit log is not forwarded since {since}: {problem}", since=failed[0], problem=failed[1])
        remedy = sentence(
            "Check the receiver and the setting audit_forwarding. Nothing is lost: what waits is sent later."
        )
        yield HealthFinding("audit.not_forwarded", reason, remedy)


# ---------- address
# Checks the public URL: that others can use it, that it leads here, and that its certificate is trusted and not about
# to expire.
#
# The URL comes from the environment, so it may be a private address.


TIMEOUT = 5.0

#: A certificate that expires within this time, or within a third of its lifetime if shorter, was not renewed.
EXPIRES_SOON = timedelta(days=14)

#: Names that no public DNS server knows: RFC 6762, RFC 8375, ICANN's reservation of 2024, and what routers use.
_PRIVATE_SUFFIXES = (".local", ".home.arpa", ".internal", ".lan", ".intranet", ".corp", ".home")

_LOCAL = Text("{url} only works on this server: webhook URLs and links in messages begin with it.")
_PUBLIC_REMEDY = Text(
    "Set the public URL to an https URL that senders and phones can reach, such as https://tocsin.example.org."
)
_NOT_ENCRYPTED = Text("{url} is not encrypted: passwords and webhook URLs can be intercepted.")
_UNTRUSTED = Text("The certificate of {host} is not trusted: {error}.")
_EXPIRES = Text(
    "The certificate of {host} expires in {count} day.", "The certificate of {host} expires in {count} days."
)
_NO_ANSWER = Text("{url} does not respond: {error}.")
_UNREACHABLE_REMEDY = Text("Check DNS, the firewall and the proxy; then try the address from a phone on mobile data.")


def check_reach(base_url: str | None) -> Iterator[HealthFinding]:
    """Checks who can use the public URL, by its text alone: nothing is called. A note where a small or closed
    installation may intend it."""
    if base_url is None:
        yield note(
            "address.none",
            sentence("No public URL is set: webhook URLs and links in messages only work on this server."),
            sentence("Set it in Settings or by TOCSIN_BASE_URL, such as https://tocsin.example.org."),
        )
        return
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if _is_this_machine(host):
        yield note("address.local", _LOCAL(url=base_url), _PUBLIC_REMEDY())
        return
    if parts.scheme != "https":
        yield HealthFinding(
            "address.not_encrypted",
            _NOT_ENCRYPTED(url=base_url),
            sentence("Put an HTTPS reverse proxy in front, and set the public URL to its https URL."),
        )
    if _is_private(host):
        yield note(
            "address.private",
            sentence(
                "{host} is a private name or address: senders and phones outside this network cannot reach it.",
                host=host,
            ),
            _PUBLIC_REMEDY(),
        )


def check_address(now: datetime, context: ssl.SSLContext | None = None) -> Iterator[HealthFinding]:
    """Checks the public URL, and calls it if one is set. `context` replaces the system's trusted certificates."""
    settings = environment.current()
    yield from check_reach(settings.base_url)
    if settings.base_url is None:
        return
    parts = urlsplit(settings.base_url)
    host = parts.hostname or ""
    context = context or egress.tls_context()
    if parts.scheme == "https":
        findings = list(_certificate(host, parts.port or 443, now, context))
        yield from findings
        if any(finding.is_problem and finding.id != "address.certificate_ends" for finding in findings):
            return
        if not settings.trusted_proxies:
            yield note(
                "address.no_proxy",
                sentence("TOCSIN_TRUSTED_PROXIES is not set: all requests appear to come from the proxy's address."),
                sentence("Set it to the proxy's address, such as 127.0.0.1,::1."),
            )
    yield from _check_response(settings.base_url, context)


def _certificate(host: str, port: int, now: datetime, context: ssl.SSLContext) -> Iterator[HealthFinding]:
    try:
        raw_socket = egress.connect(host, port, TIMEOUT, trusted=True)
    except (Rejected, Temporary, Permanent) as error:
        yield _unreachable(error.full_reason)
        return
    try:
        with raw_socket, context.wrap_socket(raw_socket, server_hostname=host) as secure:
            certificate = secure.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        yield HealthFinding(
            "address.certificate",
            _UNTRUSTED(host=host, error=error.verify_message),
            sentence("Install a publicly trusted certificate on the proxy. HaloITSM and phones reject any other."),
        )
        return
    except (OSError, ValueError) as error:
        yield _unreachable(
            sentence("{host} does not speak TLS on port {port}: {error}.", host=host, port=str(port), error=str(error))
        )
        return
    not_before, not_after = (_parse_time(str(certificate[key])) for key in ("notBefore", "notAfter"))
    remaining = not_after - now
    if remaining < min(EXPIRES_SOON, (not_after - not_before) / 3):
        yield HealthFinding(
            "address.certificate_ends",
            _EXPIRES(host=host, count=max(0, remaining.days)),
            sentence("Check why the proxy does not renew it."),
        )


def _check_response(base_url: str, context: ssl.SSLContext) -> Iterator[HealthFinding]:
    try:
        with httpx.Client(timeout=TIMEOUT, verify=context, trust_env=False) as client:
            response = client.get(f"{base_url}/healthz")
    except (httpx.HTTPError, ValueError) as error:
        yield _unreachable(_NO_ANSWER(url=base_url, error=str(error) or type(error).__name__))
        return
    if response.is_redirect:
        target = response.headers.get("location")
        detail = REDIRECTS(url=base_url, target=target) if target else REDIRECTS_SOMEWHERE(url=base_url)
        yield HealthFinding("address.elsewhere", detail, SET_FINAL_URL())
    elif (response.status_code, response.text.strip()) != (200, "ok"):
        yield HealthFinding(
            "address.not_here",
            sentence(
                "{url}/healthz returns {status} instead of 200 with “ok”: the URL points to another server, or "
                "Tocsin is not running.",
                url=base_url,
                status=str(response.status_code),
            ),
            sentence("Check the proxy's configuration, and whether `tocsin serve` is running."),
        )


def _unreachable(detail: Reason) -> HealthFinding:
    return HealthFinding("address.unreachable", detail, _UNREACHABLE_REMEDY())


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_private(host: str) -> bool:
    """Whether a name or address belongs to a private network; names are not resolved."""
    try:
        return not egress.is_allowed(ipaddress.ip_address(host), ())
    except ValueError:
        return "." not in host.rstrip(".") or host.rstrip(".").endswith(_PRIVATE_SUFFIXES)


def _parse_time(text: str) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC)
