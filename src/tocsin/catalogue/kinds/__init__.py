"""The catalogue of inbound integration kinds. Each kind is a folder with `integration.toml`, `guide.md` and `samples/`,
and an `__init__.py` where it needs hooks.

This module loads and validates data only. `tocsin.inbound` compiles mappings and rules and gives them their meaning.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo, available_timezones

from tocsin.catalogue import hooks
from tocsin.catalogue.hooks import (
    SETTING_NOT_A_MAP,
    SETTING_NOT_A_URL,
    SETTING_NOT_CRON,
    SETTING_NOT_POSITIVE,
    SETTING_NOT_TEXT,
    KindHooks,
)
from tocsin.core.errors import Rejected
from tocsin.core.reasons import translatable
from tocsin.core.validation import inputs
from tocsin.core.validation.inputs import (
    NOT_A_CHOICE,
    NOT_A_TIME_ZONE,
    NOT_BOOLEAN,
    NOT_TEXT_OF_LENGTH,
    rejected_at,
    unknown_key,
)

_KINDS: Final = Path(__file__).parent


class Category(StrEnum):
    API = translatable("API")
    EMAIL = translatable("Email")
    HEARTBEAT = translatable("Heartbeat")
    CHAT = translatable("Chat")


class IntegrationSettingType(StrEnum):
    TEXT = "text"
    ADDRESS = "address"  # URL of a web site: https:// is added, the API path and the query are removed
    FLAG = "flag"
    MAP = "map"  # a value map: from → to
    DURATION = "duration"  # such as 5m or 1h30m
    CRON = "cron"  # such as 0 3 * * *
    ZONE = "zone"  # a time zone, such as Europe/Zurich


@dataclass(frozen=True, slots=True)
class IntegrationSetting:
    """One setting of an integration kind."""

    name: str
    title: str
    kind: IntegrationSettingType
    help: str = ""
    default: object = None
    choices: tuple[str, ...] = ()  # the allowed values of a map; (): any value
    is_on_create_form: bool = (
        False  # shown when an integration is created; the other settings are on the Settings tab only
    )


#: A setting of every kind whose messages are tickets.
NEW_TICKETS_OPEN: Final = IntegrationSetting(
    name="new_tickets_open",
    title=translatable("New tickets open an alert whatever their status"),
    kind=IntegrationSettingType.FLAG,
    help=translatable("Off: only the statuses and events of the rules open."),
    default=True,
)


@dataclass(frozen=True, slots=True)
class Expectation:
    """The expected outcome of one message of a sample. Only the mapped values named in `fields` are compared."""

    status: str
    reason: str = ""  # a substring of the reason
    fields: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sample:
    """A request body as the sender posts it, the samples to post `before` it, and the expected outcomes."""

    name: str
    title: str
    body: bytes
    content_type: str
    before: tuple[str, ...]
    settings: Mapping[str, object]
    expect: tuple[Expectation, ...]


@dataclass(frozen=True, slots=True)
class IntegrationKind:
    """One kind of integration. `mapping`, `rules`, `filters` and `routes` are its uncompiled default definitions."""

    name: str
    title: str
    category: Category
    description: str
    label: str  # precedes an id in texts: "Halo 20817"
    source: str | None  # the default Source; None: the integration's name
    id_required: bool
    id_name: str  # the sender's name for its id
    unreadable_status: int  # the HTTP status for a body that cannot be parsed: 400, or 200
    lenient: bool
    assigns_source_agent: bool  # the agent in a message is assigned to the alert
    mapping: Mapping[str, object]
    rules: Mapping[str, object]
    filters: object
    routes: object
    settings: tuple[IntegrationSetting, ...]
    samples: tuple[Sample, ...]
    guide_text: str
    #: The sample to show and send by default; "": the first sample that opens an alert.
    first_sample: str = ""
    #: The product's mark in `simple-icons`; "": its initials stand for it.
    logo: str = ""
    #: The header that carries the sender's signature; "": none, or the user chooses one.
    signature_header: str = ""
    #: The header with the timestamp that the signature covers; "": none, or the user chooses one.
    signature_timestamp_header: str = ""
    #: Whether a GET is accepted as a message: its query string is decoded like form fields.
    accepts_get: bool = False
    #: Whether a message with an unknown status opens, because its sender can be any tool.
    opens_unknown: bool = False
    #: The condition of messages that the names tools share never complete; None: none.
    unaliased: object = None
    #: Of a ticket system whose messages have several forms: the one that its mapping reads, by `place`, `delivery` and
    #: `shared`; None: as they come.
    ticket_form: Mapping[str, Any] | None = None
    #: The path of a note's text in a ticket's message; "": its messages have none.
    own_note: str = ""
    kind_hooks: KindHooks = hooks.NO_HOOKS
    #: The kind that this one is an alias of; "": not an alias.
    same_as: str = ""
    #: Translated guides by language code.
    guides: Mapping[str, str] = field(default_factory=dict)

    @property
    def default_settings(self) -> dict[str, object]:
        return {setting.name: setting.default for setting in self.settings if setting.default is not None}

    def is_own_note(self, payload: object) -> bool:
        """Returns whether a message is about a note that Tocsin wrote."""
        text = inputs.read_path(payload, self.own_note) if self.own_note else None
        return isinstance(text, str) and re.search(_OWN_NOTE, text) is not None

    @property
    def initials(self) -> str:
        """Two letters shown in place of a logo: "HP" for HaloPSA, "Ze" for Zendesk."""
        capitals = [letter for letter in self.title if letter.isupper()]
        return "".join(capitals[:2]) if len(capitals) > 1 else self.title[:2]

    def guide_language(self, language: str) -> str:
        """Returns the guide language for a reader of `language`: the same language if translated, else English."""
        base_language = language.partition("-")[0]
        return base_language if base_language in self.guides else "en"

    def guide(self, url: str, settings: Mapping[str, object] | None = None, language: str = "") -> str:
        """Returns the guide as Markdown in the reader's language if translated, with the integration's URL, token and
        settings filled in. `{{!name}}` yields the third-party tool's own placeholder `{{name}}`."""
        values = {**self.default_settings, **(settings or {}), "url": url, "token": url.rpartition("/")[2]}
        values["title"] = self.title
        text = self.guides.get(self.guide_language(language), self.guide_text)
        filled = re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: str(values.get(match.group(1)) or "…"), text)
        return filled.replace("{{!", "{{")


@cache
def load_kinds() -> Mapping[str, IntegrationKind]:
    """Returns all kinds by name, sorted by title. Raises ValueError that names a broken folder."""
    return kinds_in(_KINDS)


def kinds_in(folder: Path) -> Mapping[str, IntegrationKind]:
    """Returns the kinds defined in `folder`, in the same form as `load_kinds`."""
    manifests = {
        kind_folder.name: _manifest(kind_folder)
        for kind_folder in sorted(folder.iterdir())
        if (kind_folder / "integration.toml").is_file()
    }
    kinds = {name: _kind(folder / name, data) for name, data in manifests.items() if "same_as" not in data}
    kinds |= {name: _alias(name, data, kinds) for name, data in manifests.items() if "same_as" in data}
    return dict(sorted(kinds.items(), key=lambda item: item[1].title.casefold()))


@cache
def family(name: str) -> frozenset[str]:
    """Returns the name of a kind together with the names of its aliases."""
    return frozenset({name, *(kind.name for kind in load_kinds().values() if kind.same_as == name)})


def table() -> str:
    """Returns all kinds as the Markdown table of the documentation."""
    rows = [
        f"| `{kind.name}` | {kind.title} | {kind.category} | {kind.description} |" for kind in load_kinds().values()
    ]
    return "\n".join(("| kind | title | category | what it takes |", "|---|---|---|---|", *rows))


def clean_settings(kind: IntegrationKind, submitted: Mapping[str, object]) -> dict[str, object]:
    """Returns the settings as stored. Raises Rejected("invalid_setting") with the setting as its field."""
    known = {setting.name: setting for setting in kind.settings}
    cleaned: dict[str, object] = {}
    for name, value in submitted.items():
        if name not in known:
            raise rejected_at(f"settings.{name}", unknown_key(str(name), known), "unknown_key")
        if value is not None and value != "":
            cleaned[name] = _clean(known[name], value)
    return cleaned


def _clean(setting: IntegrationSetting, value: object) -> object:
    key_path = f"settings.{setting.name}"
    match setting.kind:
        case IntegrationSettingType.FLAG:
            if not isinstance(value, bool):
                raise rejected_at(key_path, NOT_BOOLEAN(), "invalid_setting")
            return value
        case IntegrationSettingType.MAP:
            if not isinstance(value, Mapping):
                raise rejected_at(key_path, SETTING_NOT_A_MAP(), "invalid_setting")
            return {str(key): _row(setting, to, f"{key_path}.{key}") for key, to in value.items()}
        case IntegrationSettingType.ADDRESS:
            return clean_address(value, key_path)
        case IntegrationSettingType.DURATION:
            return _duration(value, key_path)
        case IntegrationSettingType.CRON:
            return _cron(value, key_path)
        case IntegrationSettingType.ZONE:
            return _zone(value, key_path)
        case IntegrationSettingType.TEXT:
            if not isinstance(value, str) or len(value) > 1000:
                raise rejected_at(key_path, SETTING_NOT_TEXT(maximum=1000), "invalid_setting")
            return value.strip()


def _row(setting: IntegrationSetting, value: object, key_path: str) -> str:
    if isinstance(value, bool | list | dict) or value is None or not str(value).strip() or len(str(value)) > 200:
        raise rejected_at(key_path, NOT_TEXT_OF_LENGTH(maximum=200), "invalid_setting")
    if setting.choices and str(value) not in setting.choices:
        raise rejected_at(key_path, NOT_A_CHOICE(value=str(value), choices=setting.choices), "invalid_setting")
    return str(value).strip()


def _duration(value: object, key_path: str) -> str:
    """Parses a duration of at least one second and returns its shortest form."""
    try:
        duration = inputs.parse_duration(value, key_path)
    except Rejected as problem:
        raise rejected_at(key_path, problem.reason, "invalid_setting") from None
    if not duration:
        raise rejected_at(key_path, SETTING_NOT_POSITIVE(), "invalid_setting")
    return inputs.write_duration(duration)


def _cron(value: object, key_path: str) -> str:
    # Imported here to keep it out of a node's start: only saving an integration and heartbeats need it.
    from cronsim import CronSim, CronSimError

    text = " ".join(value.split()) if isinstance(value, str) else ""
    try:
        CronSim(text, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise rejected_at(key_path, SETTING_NOT_CRON(error=str(error)), "invalid_setting") from None
    return text


def _zone(value: object, key_path: str) -> str:
    if not isinstance(value, str) or value not in available_timezones():
        raise rejected_at(key_path, NOT_A_TIME_ZONE(value=str(value)), "invalid_setting")
    return ZoneInfo(value).key


_ADDRESS: Final = re.compile(
    r"(https?)://((?:[\w.-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?)(/[^\s?#]*)?([?#]\S*)?", re.IGNORECASE
)


def clean_address(value: object, key_path: str) -> str:
    """Normalises a web site's URL: adds a scheme and removes the trailing slash and the API's /api or /auth path."""
    text = value.strip() if isinstance(value, str) else ""
    match = _ADDRESS.fullmatch(text if "://" in text else f"https://{text}")
    if match is None or len(text) > 500:
        raise rejected_at(key_path, SETTING_NOT_A_URL(), "invalid_setting")
    path = re.sub(r"/(api|auth)$", "", (match.group(3) or "").rstrip("/"), flags=re.IGNORECASE)
    return f"{match.group(1).lower()}://{match.group(2)}{path}"


# --- Loading -----------------------------------------------------------------------------------------------------

_KEYS: Final = {
    "title", "category", "description", "label", "source", "id_required", "id_name", "unreadable_status", "lenient",
     "follows_agent", "mapping", "rules", "filters", "routes", "settings", "first_sample", "logo", "takes_get",
     "opens_unknown", "unaliased", "ticket", "signature_header", "signature_timestamp_header",
     "own_note",
}  # fmt: skip
#: The keys allowed in an alias's manifest: how it is found in the catalogue, and its Source.
_ALIAS_KEYS: Final = {"same_as", "title", "description", "source"}


def _manifest(folder: Path) -> dict[str, Any]:
    with (folder / "integration.toml").open("rb") as file:
        data = tomllib.load(file)
    if unknown := data.keys() - (_ALIAS_KEYS if "same_as" in data else _KEYS):
        raise ValueError(f"{folder.name}/integration.toml: unknown key {min(unknown)}")
    return data


def _alias(name: str, data: Mapping[str, Any], kinds: Mapping[str, IntegrationKind]) -> IntegrationKind:
    """Returns an alias: everything, including samples and guide, comes from the other kind."""
    if data["same_as"] not in kinds:
        raise ValueError(f"{name}/integration.toml: same_as names no kind of its own: {data['same_as']}")
    return replace(kinds[data["same_as"]], name=name, **data)


def _kind(folder: Path, data: Mapping[str, Any]) -> IntegrationKind:
    if path := data.get("own_note"):
        data = _without_own_notes(data, path)
    return IntegrationKind(
        name=folder.name,
        title=data["title"],
        category=Category(data["category"]),
        description=data["description"],
        label=data.get("label", data["title"]),
        source=data.get("source"),
        id_required=data.get("id_required", False),
        id_name=data.get("id_name", "id"),
        unreadable_status=data.get("unreadable_status", 400),
        lenient=data.get("lenient", False),
        assigns_source_agent=data.get("follows_agent", False),
        mapping=data.get("mapping", {}),
        rules=data.get("rules", {}),
        filters=data.get("filters"),
        routes=data.get("routes"),
        settings=(
            *(_setting(name, row) for name, row in data.get("settings", {}).items()),
            *([NEW_TICKETS_OPEN] if data.get("follows_agent") else []),
        ),
        samples=tuple(_sample(path) for path in sorted((folder / "samples").glob("*.expected.toml"))),
        guide_text=(folder / "guide.md").read_text(encoding="utf-8"),
        guides={
            guide_file.name.split(".")[1]: guide_file.read_text(encoding="utf-8")
            for guide_file in folder.glob("guide.*.md")
        },
        first_sample=data.get("first_sample", ""),
        logo=data.get("logo", ""),
        signature_header=data.get("signature_header", ""),
        signature_timestamp_header=data.get("signature_timestamp_header", ""),
        accepts_get=data.get("takes_get", False),
        opens_unknown=data.get("opens_unknown", False),
        unaliased=data.get("unaliased"),
        ticket_form=data.get("ticket"),
        own_note=data.get("own_note", ""),
        kind_hooks=hooks.load(folder.name) if (folder / "__init__.py").is_file() else hooks.NO_HOOKS,
    )


#: What ends a note that Tocsin writes to a ticket.
_OWN_NOTE: Final = r"\(Tocsin #\d+\)(\s|<[^>]*>)*$"


def _without_own_notes(data: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Returns a manifest by which a note of Tocsin's own, when the ticket system sends it back, does not become the
    alert's text. The rest of that message counts as usual, but it opens nothing (`is_own_note`)."""
    other = {"not": {"field": path, "operator": "matches", "value": _OWN_NOTE}}

    def guard(entry: Any) -> Any:
        if isinstance(entry, list):
            return [guard(one) for one in entry]
        fields = {"path": entry} if isinstance(entry, str) else dict(entry)
        return {**fields, "when": {"all": [fields["when"], other]} if "when" in fields else other}

    texts = {name: guard(entry) for name, entry in data["mapping"].items() if name in ("long_text", "details")}
    return {**data, "mapping": {**data["mapping"], **texts}}


def _setting(name: str, row: Mapping[str, object]) -> IntegrationSetting:
    return IntegrationSetting(
        name=name,
        title=str(row["title"]),
        kind=IntegrationSettingType(str(row["kind"])),
        help=str(row.get("help", "")),
        default=row.get("default"),
        choices=tuple(row.get("choices", ())),  # type: ignore[arg-type]
        is_on_create_form=bool(row.get("asked", row["kind"] == IntegrationSettingType.ADDRESS)),
    )


_BODIES: Final = {
    "json": "application/json",
    "txt": "application/json",
    "form": "application/x-www-form-urlencoded",
    "xml": "application/xml",
    "eml": "message/rfc822",
}


def _sample(expected: Path) -> Sample:
    name = expected.name.removesuffix(".expected.toml")
    with expected.open("rb") as file:
        data = tomllib.load(file)
    if unknown := data.keys() - {"title", "before", "settings", "expect"}:
        raise ValueError(f"{expected}: unknown key {min(unknown)}")
    body = next(path for ending in _BODIES if (path := expected.with_name(f"{name}.{ending}")).is_file())
    return Sample(
        name=name,
        title=data["title"],
        body=body.read_bytes(),
        content_type=_BODIES[body.suffix.removeprefix(".")],
        before=tuple(data.get("before", ())),
        settings=data.get("settings", {}),
        expect=tuple(Expectation(e["status"], e.get("reason", ""), e.get("fields", {})) for e in data["expect"]),
    )
