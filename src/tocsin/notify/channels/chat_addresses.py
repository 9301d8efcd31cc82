"""Encrypts the URLs of chat and push services for storage, since anyone who knows one can post there."""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from tocsin.core.errors import Permanent, Rejected
from tocsin.core.reasons import Reason, Text, sentence
from tocsin.people import addresses

# ---------- reviewed chat services
# The apprise schemas that an address may use. A schema is added after a review of its plugin's source: every request
# goes through `requests`, and neither the plugin nor a URL argument reads a file, runs a program or opens a socket. A
# test repeats the mechanical part of that review for each version of apprise.
#
# Excluded on purpose: fcm, vapid and deltachat (key files), nostr, irc, xmpp, mqtt, amqp, smpp, aprs, growl, rsyslog
# and mailto (their own sockets), twitter (a library that is not installed), instagram (needs a file), msg91 (its
# template is part of every address), and services of the machine itself, such as dbus, syslog, macosx and windows.


SCHEMAS = frozenset(
    {
        "46elks", "acs", "apprise", "apprises", "atalk", "awswhatsapp", "azure", "bale", "bark", "barks", "betterstack",
        "bluesky", "brevo", "bsky", "bulksms", "bulkvs", "burstsms", "chanify", "clickatell", "clicksend", "cliq", "cm",
        "d7sms", "dapnet", "dingtalk", "discord", "dot", "eight00com", "elks", "emby", "embys", "enigma2", "enigma2s",
        "evolution", "evolutions", "exotel", "feishu", "firehydrant", "flock", "flowtriq", "flowtriqs", "fluxer",
        "fluxers", "form", "forms", "freemobile", "gchat", "github", "goalert", "goalerts", "gorush", "gorushs",
        "gotify", "gotifys", "groundmail", "groupme", "guilded", "gupshup", "hassio", "hassios", "httpsms", "humhub",
        "humhubs", "ifttt", "ilert", "incidentio", "infobip", "jellyfin", "jellyfins", "jira", "join", "json", "jsons",
        "kakao", "kakaotalk", "kaleyra", "kavenegar", "klr", "kodi", "kodis", "kook", "kudosity", "kumulos", "lametric",
        "lametrics", "lark", "lauther", "lfg", "line", "mailersend", "mailgun", "mastodon", "mastodons", "matrix",
        "matrixs", "misskey", "misskeys", "mmost", "mmosts", "mobilemessage", "mobilemsg", "msgbird", "ncloud",
        "nclouds", "nctalk", "nctalks", "nexmo", "notica", "noticas", "notifiarr", "notifico", "notificos", "notifyapp",
        "notifyre", "ntfy", "ntfys", "o365", "octopush", "onebot", "onebots", "onesignal", "opsgenie", "opsimate",
        "opsimates", "pagerduty", "pagertree", "parsep", "parseps", "pbul", "pinglet", "pinglets", "pingram", "pjet",
        "pjets", "plivo", "postmark", "pover", "prowl", "psafer", "psafers", "push", "pushdeer", "pushdeers", "pushed",
        "pushme", "pushplus", "pushward", "pushy", "qq", "reddit", "resend", "revolt", "ringc", "rocket", "rockets",
        "ryver", "schan", "sendgrid", "sendpulse", "serwersms", "ses", "session", "sessions", "seven", "sfr", "signal",
        "signalgrid", "signals", "signl4", "simplepush", "sinch", "slack", "smsc", "smseagle", "smseagles",
        "smsmanager", "smsmgr", "smstunnel", "smtp2go", "sns", "sogs", "sparkpost", "spike", "splunk", "spugpush",
        "spush", "squadcast", "stackfield", "strmlabs", "synology", "synologys", "telesign", "telnyx", "tgram",
        "threema", "toot", "toots", "trigv", "trigvs", "twilio", "twist", "viber", "victorops", "voipms", "vonage",
        "webex", "wechat", "wecom", "wecombot", "whapi", "whatsapp", "workflow", "workflows", "wpush", "wxpusher",
        "wxteams", "xbmc", "xbmcs", "xmatters", "xml", "xmls", "youlmk", "zalo", "zcliq", "zohocliq", "zoom", "zulip",
    }
)  # fmt: skip

#: Schemas whose "host" is an argument of the vendor's API, such as the domain that mail is sent from.
VENDOR_HOST = frozenset({"mailgun", "sendpulse", "smtp2go", "sparkpost", "wechat"})

#: Hosts, including their subdomains, that public services run.
PUBLIC_HOSTS = (
    "api.powerplatform.com",
    "betterstackdata.com",
    "communication.azure.com",
    "infobip.com",
    "logic.azure.com",
    "matrix.org",
    "ntfy.sh",
    "xmatters.com",
    "zulipchat.com",
)


# ---------- chat url policy
# Decides which chat and push services Tocsin may call through apprise, and rejects unsafe URLs.
#
# An address is an apprise URL (`gotify://host/token`) or a service's own URL (`https://hooks.slack.com/…`). Only
# reviewed services over HTTP are accepted. The check uses apprise's own parse result and plugin object: a second
# parser could read the same text differently.


if TYPE_CHECKING:
    import apprise

#: Prefixes of URL arguments that name a file, or a resource to fetch and attach.
_FILES = ("template", "keyfile", "subfile", "keystore", "attach", "include", "path", "cert", "file")
#: The same for a plugin's declared arguments. `attach-as` names a form field, and `path` there is part of a URL.
_DECLARED_FILES = ("template", "keyfile", "subfile", "keystore", "attach", "cert", "file")
_NO_FILE = frozenset({"attach-as"})

_NOT_KNOWN = Text("This is not the address of a supported chat or push service. See the documentation for examples.")


@dataclass(frozen=True, slots=True)
class ChatService:
    """The service that an address belongs to."""

    scheme: str
    label: str
    #: The host in the address of a self-hosted service; empty for a vendor's own service.
    own_host: str = ""


def service(url: str) -> ChatService:
    """Returns the service of `url`. Raises Rejected("invalid_address") without repeating the URL, which is a secret."""
    plugin = open_plugin(url)
    schemes = sorted(plugin.schemas(), key=lambda name: (len(name), name))
    return ChatService(schemes[0], str(plugin.service_name).strip() or schemes[0], _own_host(plugin))


def open_plugin(url: str) -> Any:
    """Returns apprise's plugin object for `url`, ready to send. Raises Rejected as `service` does."""
    if not url.isprintable() or " " in url:
        raise _refused(_NOT_KNOWN())
    parsed = _parsed(url)
    if parsed is None:
        raise _refused(_NOT_KNOWN())
    scheme = str(parsed["schema"])
    if scheme not in SCHEMAS:
        raise _refused(sentence("{scheme}:// is not allowed: it is not a reviewed HTTP-only service.", scheme=scheme))
    for name in _argument_names(parsed):
        if name.startswith(_FILES):
            raise _refused(
                sentence(
                    'An address with "{argument}" is not allowed: it would read files on this server.',
                    argument=name[:30],
                )
            )
    plugin = _instance(parsed)
    if plugin is None:
        raise _refused(_NOT_KNOWN())
    if not _is_over_http(plugin):
        raise _refused(sentence("{scheme}:// is not allowed: it is not HTTP-only.", scheme=scheme))
    if next(_file_attributes(plugin), None) is not None:
        raise _refused(sentence("This address is not allowed: it would read files on this server."))
    return plugin


def _parsed(url: str) -> dict[str, Any] | None:
    """Returns the arguments that apprise parses from the URL; None if it knows no such service."""
    # Imported on demand: apprise takes 20 MB and a second, and most installations never need it.
    from apprise.plugins import url_to_dict

    _asset()
    try:
        arguments: dict[str, Any] | None = url_to_dict(url, secure_logging=True)  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, AttributeError, KeyError, IndexError):
        # The plugin failed on its input, so the address is invalid.
        return None
    return arguments if arguments and arguments.get("schema") else None


def _argument_names(parsed: Mapping[str, Any]) -> Iterator[str]:
    """Yields the names of the URL's arguments in lower case, without the prefixes that apprise uses to group them."""
    for group, group_arguments in parsed.items():
        if group.startswith("qsd") and isinstance(group_arguments, Mapping):
            yield from (str(name).strip().lower() for name in group_arguments)


def _instance(parsed: dict[str, Any]) -> Any:
    import apprise

    try:
        return apprise.Apprise.instantiate(parsed, asset=_asset(), suppress_exceptions=True)
    except (ValueError, TypeError, AttributeError, KeyError, IndexError):
        return None


@cache
def _asset() -> apprise.AppriseAsset:
    import logging

    import apprise

    # apprise logs servers' responses; errors are reported by Tocsin instead.
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    return apprise.AppriseAsset(
        app_id="Tocsin",
        app_desc="Tocsin",
        app_url="",
        # No remote images, no redirects, no disk storage, and no third-party plugins.
        image_url_mask="",
        image_url_logo="",
        image_path_mask="",
        http_redirects=False,
        storage_mode="memory",
        secure_logging=True,
    )


def _is_over_http(plugin: Any) -> bool:
    """Returns whether the plugin sends its requests with `requests`, which `integrations.apprise.requests_patch`
    replaces.
    """
    import requests

    modules = [sys.modules[kind.__module__] for kind in type(plugin).__mro__ if kind.__module__ in sys.modules]
    return any(getattr(module, "requests", None) is requests for module in modules)


def _file_attributes(plugin: Any) -> Iterator[str]:
    """Yields the attributes of a plugin object that hold a file: a declared file argument, or an attachment."""
    from apprise import AppriseAttachment, AppriseConfig
    from apprise.attachment.base import AttachBase

    declared = {**plugin.template_tokens, **plugin.template_args, **plugin.template_kwargs}
    for name, declaration in declared.items():
        if name.startswith(_DECLARED_FILES) and name not in _NO_FILE:
            for attribute in (name, str(declaration.get("map_to") or name)):
                if getattr(plugin, attribute, None):
                    yield attribute
    for attribute, value in vars(plugin).items():
        values = value if isinstance(value, list | tuple | set) else [value]
        if any(isinstance(item, AttachBase | AppriseConfig) for item in values):
            yield attribute
        if any(isinstance(item, AppriseAttachment) and len(item) for item in values):
            yield attribute


def _own_host(plugin: Any) -> str:
    """Returns the host that the address names, unless a public service runs it."""
    tokens = plugin.template_tokens
    if not plugin.schemas().isdisjoint(VENDOR_HOST) or str(getattr(plugin, "mode", "")) == "cloud":
        return ""
    if "organization" in tokens and hasattr(plugin, "hostname"):
        host = f"{plugin.organization}.{plugin.hostname}"
    elif "endpoint" in tokens:
        host = str(plugin.endpoint)
    elif "host" in tokens:
        host = str(plugin.host or "")
    else:
        return ""
    host = host.lower().rstrip(".")
    is_public = any(host == public or host.endswith(f".{public}") for public in PUBLIC_HOSTS)
    return "" if is_public else host


def _refused(reason: Reason) -> Rejected:
    return Rejected("invalid_address", reason)


_TOO_LONG = Text("The address has at most {limit} characters.")


def validate_address(text: str) -> str:
    """Returns the encrypted form of a service's URL. An encrypted or masked one is returned unchanged.

    Raises Rejected("invalid_address") without repeating the address.
    """
    if addresses.is_masked(text):
        return text
    if addresses.is_encrypted(text):
        return _readable(text)
    if len(text.encode()) > addresses.MAX_PLAIN_ADDRESS_CHARS:
        raise Rejected("invalid_address", _TOO_LONG(limit=addresses.MAX_PLAIN_ADDRESS_CHARS))
    return addresses.encrypt_address(service(text).scheme, text)


def own_server(address: str) -> str:
    """Returns the host of an encrypted address that belongs to a self-hosted server; empty for a public service or any
    other address. Raises Rejected.
    """
    if not addresses.is_encrypted(address):
        return ""
    return service(addresses.decrypt_address(address)).own_host


def _readable(text: str) -> str:
    try:
        addresses.decrypt_address(text)
    except Permanent as problem:
        raise Rejected("invalid_address", problem.full_reason) from None
    return text


# ---------- push addresses
# The address of a contact method that reaches all devices of a user: `devices:` and a random word. Pure.
#
# It cannot be guessed and says nothing about the user, so that no user's pages can reach another user's devices.


PREFIX = "devices:"
_ADDRESS = re.compile(r"devices:[a-z2-7]{20}")


def is_devices(address: str) -> bool:
    """Returns whether it is the address of a user's devices."""
    return _ADDRESS.fullmatch(address) is not None


def new_address(random: bytes) -> str:
    """Returns an address made from at least 13 random bytes."""
    return PREFIX + base64.b32encode(random).decode().lower()[:20]
