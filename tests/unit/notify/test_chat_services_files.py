"""No chat URL opens a local file; every reviewed service speaks only HTTP."""

from __future__ import annotations

import ast
import gc
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from urllib3.connectionpool import HTTPConnectionPool

from tests.support.hypothesis_profiles import examples
from tests.support.notification_messages import page
from tocsin.core.errors import Rejected
from tocsin.core.net.egress import EgressResponse, HttpClient, OutcomeUnknown
from tocsin.notify.channels import chat
from tocsin.notify.channels.chat import SCHEMAS, ChatChannel
from tocsin.notify.integrations import apprise
from tocsin.notify.integrations.apprise import ChatServicesSender, RequestLog, through_client
from tocsin.notify.interfaces import ProviderAccount

SENTINEL = Path(tempfile.mkdtemp(prefix="sentinel")) / "template.json"
SENTINEL.write_text('{"type": "message", "attachments": [{"content": {}}], "text": "secret"}')

_opened: list[str] = []


def _note_open(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and str(SENTINEL.parent) in str(arguments[0]):
        _opened.append(str(arguments[0]))


sys.addaudithook(_note_open)

BASES = (
    "workflows://host.example/aaaa/bbbb",
    "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js",
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
    "tgram://123456789:abcdefg_hijklmnop/12315544",
    "guilded://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js",
    "ntfy://push.example/topic",
    "ntfys://ann:pw@push.example/topic",
    "form://push.example/form",
    "json://push.example/json",
    "synology://push.example/token",
    "matrixs://ann:password@matrix.example/%23general",
    "gotify://push.example/AbcdefghijKLMNO",
    "fcm://project/device",
    "vapid://ann@example.org/x",
    "https://discord.com/api/webhooks/4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js",
)
ARGUMENTS = ("template", "attach", "keyfile", "subfile", "file", "file_url", "attachment", "include", "path", "image")
SEPARATORS = ("?", "&", ";", "#?", "/?", "/#?", "%3F", "?a=b&", "?a=b;", "#", "%23?", "??", "?x=%26", "?+", "/;", "#&")
PREFIXES = ("", "%20", "+", "-", ":", "%09", "%2B", "%00", "+%20")
VALUES = (
    str(SENTINEL),
    f"file://{SENTINEL}",
    quote(str(SENTINEL), safe=""),
    quote(quote(str(SENTINEL), safe=""), safe=""),
    f"FILE://{SENTINEL}?cache=no",
    f"file://localhost{SENTINEL}",
    f"yes&template={SENTINEL}",
)


def _encoded(text: str, how: int) -> str:
    return (text, text.upper(), text.title(), "".join(f"%{ord(one):02x}" for one in text))[how]


arguments = st.tuples(
    st.sampled_from(SEPARATORS),
    st.sampled_from(PREFIXES),
    st.builds(_encoded, st.sampled_from(ARGUMENTS), st.integers(0, 3)),
    st.sampled_from(("=", "%3D", "%20=", "==")),
    st.sampled_from(VALUES),
).map("".join)
urls = st.builds(
    lambda base, more, upper: (base.replace("://", "://", 1) if not upper else base.upper()) + "".join(more),
    st.sampled_from(BASES),
    st.lists(arguments, min_size=1, max_size=3),
    st.booleans(),
)


class Accepting(HttpClient):
    """Takes every request without a connection."""

    def request(self, method: str, url: str, **_more: Any) -> EgressResponse:
        return EgressResponse(200, {"content-type": "application/json"}, b'{"ok": true, "id": 1}')


def _send(url: str) -> None:
    try:
        plugin = chat.open_plugin(url)
    except Rejected:
        return
    plugin.request_rate_per_sec = 0
    with through_client(Accepting(), "key") as request_log:
        apprise._notify(plugin, ChatChannel().render(page()), request_log, "Service")


def test_the_sentinel_is_noticed_when_it_is_opened() -> None:
    _opened.clear()
    SENTINEL.read_text()
    assert _opened


@pytest.mark.parametrize(
    "end", ["#?template={}", "?%20template={}", "?a=b;template={}", "?TEMPLATE={}", "/#?x=y;%74emplate={}"]
)
def test_an_address_that_names_a_template_is_refused(end: str) -> None:
    _opened.clear()
    with pytest.raises(Rejected, match="files on this server"):
        chat.open_plugin(f"workflows://host.example/aaaa/bbbb{end.format(SENTINEL)}")
    assert _opened == []


def test_template_before_the_at_sign_is_refused_too() -> None:
    with pytest.raises(Rejected) as raised:
        chat.open_plugin("whatsapp://template:abcdefghijklmnopqrstuvwx@123456789012/+14155550100")
    assert raised.value.reason.code == "This address is not allowed: it would read files on this server."


@examples(300)
@given(urls)
def test_no_address_opens_a_file(url: str) -> None:
    _opened.clear()
    _send(url)
    assert _opened == [], url


def test_a_message_ends_at_its_deadline_whatever_a_plugin_does() -> None:
    elapsed = [0.0]
    request_log = RequestLog(Accepting(), "key", elapsed=lambda: elapsed[0])
    request = requests.Request("POST", "https://push.example/").prepare()
    request_log.send(request)
    elapsed[0] = apprise.MESSAGE_DEADLINE
    with pytest.raises(OutcomeUnknown):
        request_log.send(request)
    assert isinstance(request_log.problem, OutcomeUnknown)


class SignedIn(HttpClient):
    """Accepts every sign-in and message, and records the paths."""

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[str] = []

    def request(self, method: str, url: str, **_more: Any) -> EgressResponse:
        self.paths.append(urlsplit(url).path)
        body = {
            "AccessToken": "t", "Id": "u", "User": {"Id": "u"}, "access_token": "t", "user_id": "@u:h",
            "home_server": "h", "room_id": "!r:h", "token": "t", "default_workspace": 1, "owner_id": "1",
            "endpoint_id": "2", "expires_in": 3600,
        }  # fmt: skip
        is_list = "/Sessions" in url and method == "GET"
        return EgressResponse(
            200, {"content-type": "application/json"}, json.dumps([body] if is_list else body).encode()
        )


@pytest.mark.parametrize(
    ("url", "last_path"),
    [
        ("emby://ann:password@media.example", "/Sessions/Logout"),
        ("jellyfin://ann:password@media.example", "/Sessions/Logout"),
        ("matrix://token@matrix.example/%23general?user=ann", "/_matrix/client/v3/logout"),
        (f"ringc://15551234567:{'a' * 32}@{'A' * 22}/{'b' * 22}/15559876543", "/restapi/oauth/revoke"),
        ("twist://password:user@example.org/12345:67890", "/api/v3/users/logout"),
    ],
)
def test_sign_out_of_a_service_passes_the_egress_checks(
    url: str, last_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    past_checks: list[str] = []
    monkeypatch.setattr(HTTPConnectionPool, "urlopen", lambda pool, *_, **__: past_checks.append(pool.host))
    sender = ChatServicesSender(ProviderAccount(""))
    sender._client = client = SignedIn()
    sender.send(ChatChannel().render(page()), "chat", ChatChannel().normalize_address(url), "key")
    gc.collect()
    assert client.paths[-1] == last_path
    assert past_checks == []


#: Modules by which a plugin could do more than HTTP, or reach a file.
_MORE_THAN_HTTP = frozenset(
    {
        "asyncio", "ctypes", "dbus", "ftplib", "gi", "glob", "gntp", "hid", "http", "imaplib", "importlib",
        "multiprocessing", "paho", "pathlib", "pickle", "pika", "proton", "pwd", "requests_oauthlib", "runpy",
        "shelve", "shutil", "slixmpp", "smpplib", "smtplib", "socket", "socketserver", "sqlite3", "ssl",
        "subprocess", "syslog", "telnetlib", "tempfile", "urllib3", "websocket", "zipfile",
    }
)  # fmt: skip
#: How often a module calls `open`: each was read, and opens an attachment or a template, which no address has.
_REVIEWED_OPENS = {
    "apprise_api": 1, "custom_form": 1, "discord": 1, "mailgun": 1, "mastodon": 1, "matrix": 2, "pushbullet": 1,
    "ses": 1, "slack": 1, "telegram": 2, "workflows": 1,
}  # fmt: skip


def _plugins() -> dict[str, Any]:
    from apprise.manager_plugins import NotificationManager

    manager = NotificationManager()
    return {schema: manager[schema] for schema in SCHEMAS}


def _sources(plugin: Any) -> Iterator[tuple[str, ast.Module]]:
    """The modules that make up a plugin, without the base that all share."""
    for kind in plugin.__mro__:
        name = kind.__module__
        if name.startswith("apprise.plugins.") and name != "apprise.plugins.base":
            path = Path(str(sys.modules[name].__file__))
            package = path.parent.name
            for source in [path] if package == "plugins" else sorted(path.parent.glob("*.py")):
                yield (path.stem if package == "plugins" else package), ast.parse(source.read_text())


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").partition(".")[0]


def _opens(tree: ast.Module) -> int:
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return sum(isinstance(one, ast.Name) and one.id in ("open", "exec", "eval", "__import__") for one in calls)


def test_every_reviewed_service_speaks_http_only() -> None:
    opens: dict[str, int] = {}
    for schema, plugin in _plugins().items():
        modules = [sys.modules[kind.__module__] for kind in plugin.__mro__]
        assert any(getattr(module, "requests", None) is requests for module in modules), schema
        results: dict[str, int] = {}
        for name, tree in _sources(plugin):
            assert not _MORE_THAN_HTTP.intersection(_imported(tree)), (schema, name)
            results[name] = results.get(name, 0) + _opens(tree)
        opens |= {name: number for name, number in results.items() if number}
    assert opens == _REVIEWED_OPENS


def test_no_icon_of_this_machine_is_sent_along() -> None:
    plugin = chat.open_plugin("tgram://123456789:abcdefg_hijklmnop/12315544/?image=yes")
    from apprise import NotifyType

    assert plugin.image_path(NotifyType.INFO) is None


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("tgram://123456789:abcdefg_hijklmnop/12315544/", ""),
        ("ntfy://topic", ""),
        ("matrixs://ann:password@matrix.org/%23general", ""),
        ("zulip://bot@org/" + "a" * 32, ""),
        ("zulip://bot@org.chat.example/" + "a" * 32, "org.chat.example"),
        ("gotify://push.example/AbcdefghijKLMNO", "push.example"),
        ("json://matrix.org.evil.example/x", "matrix.org.evil.example"),
        ("workflows://evil.example/aaaa/bbbb", "evil.example"),
    ],
)
def test_address_reveals_the_host_it_names(url: str, host: str) -> None:
    assert chat.service(url).own_host == host
