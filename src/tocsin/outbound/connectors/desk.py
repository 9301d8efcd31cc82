"""The connector of every ticket system that a file describes (`tocsin.catalogue.desks`): its settings, and a sender
that writes notes, agents and statuses, creates tickets and reads lists as the file says.

Every completed step is recorded, so that a retry does only the remaining ones. Knows no ticket system by name.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, create_model

from tocsin.catalogue.desks import BeforeSpec, Desk, DeskSettingSpec, RequestSpec, RowsSpec, load_desks, rows_of
from tocsin.catalogue.kinds import clean_address
from tocsin.core.delivery.circuit_breaker import ENTER_CREDENTIALS, NeedsAttention, RateLimit, Throttled
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import EgressResponse, HttpClient, OutcomeUnknown
from tocsin.core.reasons import NO_REASON, Reason, joined, reason_as_json, reason_from_json
from tocsin.core.reasons import translatable as _
from tocsin.core.validation import inputs
from tocsin.core.validation.inputs import MISSING, read_path
from tocsin.core.validation.spec import InForm, InvalidValue, OneOf, Secret, SpecErrors, TimeZone
from tocsin.notify.text.formatting import plain
from tocsin.outbound import reasons
from tocsin.outbound.connectors.http import HttpAuth, HttpCaller
from tocsin.outbound.connectors.interfaces import (
    CallDone,
    CallJob,
    ConnectorKind,
    IntegrationAccount,
    OutboundSpec,
    RecordedClient,
)
from tocsin.outbound.connectors.tickets import Agents, CreateTicketSpec, ReferenceEntry, SyncSpec, numbered

# ---------- spec
# An outbound integration with such a system as YAML, the API and forms write it. Pure.


def _clean_url(text: str) -> str:
    try:
        return str(clean_address(text, "base_url"))
    except Rejected as rejection:
        errors = SpecErrors()
        errors.add_rejection(rejection, "base_url")
        raise InvalidValue(errors) from None


class DeskConnectionSpec(OutboundSpec):
    """An outbound integration with a ticket system that a file describes. It has the settings of that file too."""

    desk: ClassVar[Desk]

    base_url: Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_clean_url)] = Field(
        description="Address of the ticket system."
    )
    matched_agents: Agents = Field(
        default={}, alias="agents", description="Ids of agents by username, for users who are matched manually."
    )
    rate: int = Field(default=5, ge=1, le=50, description="Requests a second, at most.")
    sync: SyncSpec | None = Field(
        default=None, description="What is written to the ticket. Default: a note for every event."
    )
    create_ticket: CreateTicketSpec | None = Field(
        default=None, description="Which tickets are created for alerts from other sources. Default: none."
    )

    def settings(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name, one in self.desk.spec.settings.items() if not one.secret}
        settings = {"base_url": self.base_url, "time_zone": getattr(self, "time_zone", None), **own}
        settings["create_ticket"] = self.create_ticket.settings() if self.create_ticket else None
        if self.rate != type(self).model_fields["rate"].default:
            settings["rate"] = self.rate
        settings = {key: value for key, value in settings.items() if value}
        return settings if self.sync is None else settings | {"sync": self.sync.settings()}

    def required_secrets(self) -> tuple[str, ...]:
        return tuple(name for name, one in self.desk.spec.settings.items() if one.secret and one.required)

    @property
    def agents_by_user(self) -> Mapping[str, str]:
        return self.matched_agents


_Zone = Annotated[TimeZone | None, InForm(_("Time zone for notes"), widget="zone", empty=_("Installation default"))]


def _spec_type(desk: Desk) -> type[OutboundSpec]:
    url = Annotated[
        str,
        Field(min_length=1, max_length=500),
        AfterValidator(_clean_url),
        InForm(_("URL"), desk.spec.address, widget="url"),
    ]
    fields: dict[str, Any] = {
        "kind": (Annotated[str, OneOf((desk.name,))], Field(description="Kind of integration.")),
        "base_url": (url, Field(description=f"Address, such as {desk.spec.address}.")),
        "rate": (int, Field(default=desk.spec.rate, ge=1, le=50, description="Requests a second, at most.")),
        # The settings of the file come before those that are rarely changed.
        **{name: _setting_field(one) for name, one in desk.spec.settings.items()},
        "time_zone": (_Zone, Field(default=None, description="Time zone of times in notes. Default: `time_zone`.")),
    }
    name = "".join(part.capitalize() for part in desk.name.split("_"))
    spec: type[OutboundSpec] = create_model(f"{name}DeskSpec", __base__=DeskConnectionSpec, **fields)
    spec.desk = desk  # type: ignore[attr-defined]
    spec.__doc__ = f"An outbound integration of the kind `{desk.name}`."
    return spec


def _setting_field(setting: DeskSettingSpec) -> tuple[Any, Any]:
    shown = InForm(setting.title, setting.help, is_required=setting.required and not setting.default)
    description = f"{setting.title}.{' Required.' if setting.required and setting.secret else ''}"
    if setting.secret:
        return Annotated[Secret, shown], Field(default="", description=description)
    minimum = 1 if setting.required and not setting.default else 0
    limits = Field(min_length=minimum, max_length=500)
    default = ... if minimum else setting.default
    return Annotated[str, limits, shown], Field(default=default, description=description)


# ---------- templates
# Fills the templates of a file. Pure.


def fill(template: object, values: Mapping[str, object]) -> object:
    """A body with its values. A text that is one reference becomes the value itself; what has no value is left out, and
    so is an object that is empty because of that."""
    match template:
        case Mapping():
            filled = {key: fill(item, values) for key, item in template.items()}
            present = {key: item for key, item in filled.items() if item is not MISSING}
            return present if present or not template else MISSING
        case list():
            items = [item for one in template if (item := fill(one, values)) is not MISSING]
            return items if items or not template else MISSING
        case str():
            names = inputs.references(template)
            if any(name not in values for name in names):
                return MISSING
            if len(names) == 1 and template == f"<{(name := next(iter(names)))}>":
                return values[name]
            return inputs.render(template, values)
        case _:
            return template


def entry_values(name: str, entry: Mapping[str, Any] | None) -> dict[str, object]:
    """The values of an entry of a list: as text, and as a number where it is one. An empty id stands for nobody."""
    if entry is None:
        return {}
    number = str(entry["number"])
    return {
        f"{name}.id": number or None,
        f"{name}.number": numbered(number) or None,
        f"{name}.name": entry["name"],
    }


def row_text(template: str, row: object) -> str:
    """A text of templates over a row, such as `<firstname> <lastname>`."""
    values = {path: read_path(row, path) for path in inputs.references(template)}
    return " ".join(inputs.render(template, {key: "" if v is None else v for key, v in values.items()}).split())


def marker_of(alert_id: int | None) -> str:
    """What ends the subject of Tocsin's tickets and its notes, by which it recognizes them."""
    return f"(Tocsin #{int(alert_id or 0)})"


def matches(row: object, wanted: Mapping[str, str], values: Mapping[str, object]) -> bool:
    """Whether the paths of a row have these values, ignoring case."""
    return all(
        inputs.describe_template(read_path(row, path)).casefold() == inputs.render(text, values).strip().casefold()
        for path, text in wanted.items()
    )


# ---------- sender


_BURST = 10
#: Pages of a list that are read, at most.
_MAX_PAGES = 20
_MAX_MESSAGE_CHARS = 300
#: Answers by which it is unknown whether a request was carried out.
_UNCERTAIN = (500, 502, 504)


@dataclass(slots=True)
class DeskSender:
    """The sender of one account."""

    account: IntegrationAccount
    desk: Desk
    rate: RateLimit
    caller: HttpCaller

    @property
    def label(self) -> str:
        return self.desk.label

    def send(self, job: CallJob, http_client: RecordedClient, now: datetime) -> CallDone:
        """Executes the job: `write` to a ticket, or `create` one."""
        if wait_reason := job.prepared.get("wait"):
            raise Temporary(wait_reason)
        session = self.session(http_client, now, job)
        if job.action == "create":
            if problem := job.prepared.get("problem"):
                raise Permanent(problem)
            return _create_ticket(session, job)
        ticket = str(job.prepared.get("ticket") or job.ticket)
        if not ticket:
            raise Permanent(reasons.NO_TICKET(desk=self.label), reasons.WRITTEN_WITH_TICKET())
        session.values["ticket"] = session.ticket = ticket
        return _TicketWrite(session, job).execute()

    def session(self, http_client: RecordedClient, now: datetime, job: CallJob | None = None) -> DeskSession:
        settings = self.desk.spec.settings
        own = {name: self.account.settings.get(name) or one.default for name, one in settings.items()}
        values: dict[str, Any] = {name: text for name, text in own.items() if text and not settings[name].secret}
        values |= {f"{name}.number": numbered(text) for name, text in values.items()}
        values["address"] = self.account.settings.get("base_url", "")
        if job is not None:
            values |= {"alert": job.alert_id, "marker": marker_of(job.alert_id)}
        return DeskSession(self, http_client, now, values)

    def verify(self, http_client: RecordedClient, now: datetime) -> Reason:
        """Signs in again."""
        self.caller.forget_token(None)
        session = self.session(http_client, now)
        request = self.desk.spec.verify
        payload = session.call("verify", request)
        agent = row_text(request.name, payload) or self.account.name
        return reasons.DESK_VERIFIED(address=self.account.settings["base_url"], agent=agent)

    def read_lists(
        self, http_client: RecordedClient, now: datetime
    ) -> tuple[dict[str, list[ReferenceEntry]], list[Reason]]:
        """Every list that can be read, and the errors of the others. Raises if nothing works at all."""
        session = self.session(http_client, now)
        lists: dict[str, list[ReferenceEntry]] = {}
        problems: list[Reason] = []
        for name, rows in self.desk.spec.lists.items():
            try:
                lists[name] = list(session.entries(name, rows))
            except NeedsAttention:
                raise
            except Permanent as error:
                problems.append(error.full_reason)
        return lists, problems

    def set_up_webhook(self, http_client: RecordedClient, now: datetime, url: str, name: str) -> None:
        """Creates what makes the system call `url`. Each step may use what an earlier one has captured."""
        session = self.session(http_client, now)
        session.values |= {"url": url, "name": name}
        for step in self.desk.spec.webhook:
            payload = session.call("webhook", step)
            session.values |= {key: read_path(payload, path) for key, path in step.capture.items()}


@dataclass(slots=True)
class DeskSession:
    """The requests of one job, with the values that their templates can use."""

    sender: DeskSender
    http_client: RecordedClient
    now: datetime
    values: dict[str, Any]
    ticket: str = ""

    @property
    def label(self) -> str:
        return self.sender.label

    def run(self, name: str, request: RequestSpec) -> object | None:
        """An operation with what comes before it. Returns the answer; None if it was done already."""
        for before in request.before:
            answer = self.call(name, before)
            if before.unless and matches(answer, before.unless, self.values):
                return None
            if before.capture:
                self.values |= self._captured(before, answer)
        return self.call(name, request)

    def _captured(self, before: BeforeSpec, answer: object) -> dict[str, object]:
        rows = rows_of(answer, before.rows)
        wanted = inputs.render(before.equals, self.values).strip()
        for row in rows:
            if before.any_of and not any(matches(row, {path: before.equals}, self.values) for path in before.any_of):
                continue
            captured = {key: read_path(row, path) for key, path in before.capture.items()}
            if None not in captured.values():
                return captured
        names = tuple(filter(None, (row_text(before.offers, row) for row in rows))) if before.offers else ()
        wanted = wanted or ", ".join(before.capture)
        if names:
            reason = reasons.DESK_OFFERS(desk=self.label, wanted=wanted, ticket=self.ticket, offered=names)
        else:
            reason = reasons.DESK_OFFERS_NOTHING(desk=self.label, wanted=wanted, ticket=self.ticket)
        raise Permanent(reason, reasons.DESK_CHOOSE_OTHER())

    def call(self, name: str, request: RequestSpec | BeforeSpec) -> object:
        """One request and its answer, decoded. Raises as the sender's `send`."""
        body = fill(request.body, self.values) if request.body is not None else MISSING
        content = b"" if body is MISSING else json.dumps(body, ensure_ascii=False).encode()
        path = inputs.render(request.path, self.values, inputs.in_url)
        own = request.headers if isinstance(request, RequestSpec) else {}
        expected = request.success if isinstance(request, RequestSpec) else ()
        return self._request(name, request.method, self._url(path), content, own, expected)

    def rows(self, name: str, rows: RowsSpec) -> Iterator[object]:
        """The rows of every page that match."""
        url = self._url(inputs.render(rows.path or "", self.values, inputs.in_url))
        for page in range(_MAX_PAGES):
            paged = f"{url}{'&' if '?' in url else '?'}"
            if rows.page:
                paged += f"{rows.page}={rows.first + page}"
            elif rows.offset:
                paged += f"{rows.offset}={rows.size * page}"
            else:
                paged = url
            answer = self._request(name, "GET", paged)
            found = rows_of(answer, rows.rows)
            for row in found:
                if matches(row, rows.where, self.values):
                    yield from rows_of(row, rows.each) if rows.each else (row,)
            following = read_path(answer, rows.next) if rows.next else None
            if isinstance(following, str) and following:
                url = self._same_origin(following)
            elif not (rows.page or rows.offset) or len(found) < rows.size:
                return

    def entries(self, list_name: str, rows: RowsSpec) -> Iterator[ReferenceEntry]:
        """The entries of a list."""
        for number, name in rows.entries.items():
            yield ReferenceEntry(list_name, number, name, {})
        for row in self.rows("lists", rows) if rows.path else ():
            number, name = row_text(rows.id, row), row_text(rows.name, row)
            email = row_text(rows.email, row).casefold()
            if number and name:
                data = {"email": email} if email else {"names": [name]} if list_name == "priority" else {}
                yield ReferenceEntry(list_name, number, name[:200], data)

    def find(self, name: str, rows: RowsSpec) -> Mapping[str, str] | None:
        """The first row as an entry."""
        for row in self.rows(name, rows):
            if number := row_text(rows.id, row):
                return {"number": number, "name": row_text(rows.name, row)}
        return None

    def _url(self, path: str) -> str:
        return f"{self.sender.account.settings['base_url']}{self.sender.desk.spec.address_path}{path}"

    def _same_origin(self, url: str) -> str:
        """The address of a next page: credentials go to no other host."""
        base = urlsplit(self.sender.account.settings["base_url"])
        parts = urlsplit(url)
        return parts._replace(scheme=base.scheme, netloc=base.netloc).geturl()

    def _request(
        self,
        name: str,
        method: str,
        url: str,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        success: Sequence[int] = (),
    ) -> object:
        caller = self.sender.caller
        sent = {"Accept": "application/json", "User-Agent": "Tocsin", **self._own_headers(), **(headers or {})}
        if content:
            sent.setdefault("Content-Type", "application/json")
        credentials = caller.credentials(self.http_client, self.now)
        response = self.http_client.request(method, url, headers=sent | credentials, content=content)
        if response.status == 401 and caller.has_token:
            caller.forget_token(credentials)
            credentials = caller.credentials(self.http_client, self.now)
            response = self.http_client.request(method, url, headers=sent | credentials, content=content)
        return self._decoded(name, response, success, is_write=method != "GET")

    def _own_headers(self) -> dict[str, str]:
        account = self.sender.account
        values = {**self.values, **account.secrets}
        return {
            key: inputs.render(text, values, inputs.in_header) for key, text in self.sender.desk.spec.headers.items()
        }

    def _decoded(self, name: str, response: EgressResponse, success: Sequence[int], *, is_write: bool) -> object:
        status, errors = response.status, self.sender.desk.spec.errors
        words: dict[str, Any] = {"desk": self.label, "operation": reasons.OPERATIONS[name](), "status": status}
        text = response.body.decode("utf-8", "replace").strip()
        if status in success or (not success and 200 <= status < 300):
            if text.startswith("<") and "json" not in response.headers.get("content-type", ""):
                page = joined(reasons.DESK_WEB_PAGE(**words), reasons.DESK_CHECK_ADDRESS(), separator=" ")
                raise OutcomeUnknown(page) if is_write else Temporary(page)
            try:
                return json.loads(text) if text else None
            except ValueError:
                if is_write:
                    return None
                raise Temporary(reasons.DESK_NOT_JSON(**words)) from None
        if status == 429:
            raise Throttled(reasons.DESK_RATE_LIMITED(**words), response.retry_after)
        if status >= 500 or status == 408 or status in errors.temporary:
            unavailable = reasons.DESK_UNAVAILABLE(**words)
            if is_write and status in _UNCERTAIN:
                raise OutcomeUnknown(unavailable)
            raise Temporary(unavailable, response.retry_after)
        said = _explanation(text, errors.message)
        message = reasons.SERVER_SAID(message=said) if said else NO_REASON
        if 300 <= status < 400:
            host = urlsplit(response.headers.get("location", "")).netloc or "another page"
            raise NeedsAttention(reasons.DESK_REDIRECTED(address=host, **words), reasons.DESK_CHECK_ADDRESS())
        if status == 401 or status in errors.hold:
            rejected = joined(reasons.DESK_REJECTED_CREDENTIALS(**words), message, separator=" ")
            raise NeedsAttention(rejected, ENTER_CREDENTIALS())
        if status == 403:
            forbidden = joined(reasons.DESK_FORBIDS(**words), message, separator=" ")
            raise Permanent(forbidden, reasons.DESK_CHECK_ROLE())
        if status in (404, 410):
            has_ticket = reasons.DESK_HAS_NO_TICKET(ticket=self.ticket, desk=self.label, status=status)
            missing = has_ticket if self.ticket else reasons.DESK_NOT_FOUND(**words)
            raise Permanent(joined(missing, message, separator=" "))
        raise Permanent(joined(reasons.DESK_REFUSED(**words), message, separator=" "))


def _explanation(text: str, paths: Sequence[str]) -> str:
    """What a refusal says, on one line and without markup."""
    try:
        payload = json.loads(text)
    except ValueError:
        return " ".join(plain(text).split())[:_MAX_MESSAGE_CHARS]
    found = [inputs.describe_template(read_path(payload, path)) for path in paths]
    said = "; ".join(filter(None, found)) or (payload if isinstance(payload, str) else json.dumps(payload))
    return " ".join(plain(str(said)).split())[:_MAX_MESSAGE_CHARS]


def _create_ticket(session: DeskSession, job: CallJob) -> CallDone:
    """Creates a ticket. A retry, and only a retry, first checks whether an earlier attempt created it."""
    spec, content = session.sender.desk.spec, job.content
    if spec.create is None:
        raise Permanent(reasons.DESK_CANNOT_CREATE(desk=session.label))
    marker = marker_of(job.alert_id)
    if (job.is_uncertain or job.progress.get("tried") or content.get("looks_first")) and spec.look_up_ticket:
        for row in session.rows("look_up_ticket", spec.look_up_ticket):
            ticket = row_text(spec.look_up_ticket.id, row)
            # Searches find words, so the result is checked again.
            if ticket and marker in row_text(spec.look_up_ticket.name, row):
                return CallDone(reasons.TICKET_EXISTED(ticket=ticket), ticket=ticket)
    job.progress["tried"] = True
    details = str(content.get("details", ""))[: spec.max_note]
    session.values |= {
        "summary": f"{str(content['summary'])[: spec.max_summary - len(marker) - 1]} {marker}",
        "details": details,
        "details_html": as_html(details),
        **{key: numbered(content[key]) for key in ("client", "site", "user") if content.get(key)},
    }
    for key in ("ticket_type", "priority", "team"):
        session.values |= entry_values(key, job.prepared.get(key))
    answer = session.run("create", spec.create)
    ticket = row_text(spec.create.id, answer)
    if session.http_client.is_dry_run:
        return CallDone()
    if not ticket:
        raise OutcomeUnknown(reasons.DESK_NO_ID(desk=session.label))
    return CallDone(reasons.TICKET_CREATED(ticket=ticket), ticket=ticket)


def as_html(text: str) -> str:
    return "<p>" + html.escape(text).replace("\n", "<br>") + "</p>"


@dataclass(slots=True)
class _TicketWrite:
    """One `write` to one ticket, step by step."""

    session: DeskSession
    job: CallJob

    def execute(self) -> CallDone:
        """Writes the note first, then agent, team and priority, and the status last, because it may close the ticket.

        A rejected note does not prevent the other steps, and an unknown status does not prevent the note.
        """
        results: list[Reason] = []
        note_rejection: Permanent | None = None
        try:
            results += self._run_step("note", self._write_note)
        except NeedsAttention:
            raise
        except Permanent as error:
            note_rejection = error
        if problem := self.job.prepared.get("problem"):
            raise Permanent(problem, NO_REASON if note_rejection is None else note_rejection.full_reason)
        results += self._run_step("fields", self._write_fields)
        results += self._run_step("status", self._write_status)
        if note_rejection is not None:
            raise note_rejection
        if remark := self._remark:
            results.append(remark)
        return CallDone(joined(*results) or reasons.NOTHING_WRITTEN())

    def _run_step(self, name: str, write: Callable[[], Reason]) -> list[Reason]:
        if self.job.progress.get(name):
            return [reason_from_json(self.job.progress[name])]
        result = write()
        if result:
            self.job.progress[name] = reason_as_json(result)
            return [result]
        return []

    @property
    def _spec(self) -> Any:
        return self.session.sender.desk.spec

    @property
    def _remark(self) -> Reason:
        return (self.job.progress.get("remark") and reason_from_json(self.job.progress["remark"])) or NO_REASON

    def _write_note(self) -> Reason:
        note = str(self.job.content.get("note") or "")
        text = f"{note[: self._spec.max_note]} {marker_of(self.job.alert_id)}" if note else ""
        is_public = bool(self.job.content.get("public"))
        self.session.values |= {
            "note": text, "note_html": as_html(text), "is_public": is_public, "is_private": not is_public,
        }  # fmt: skip
        if not note:
            return NO_REASON
        if self.job.is_uncertain and self._note_exists(text):
            return reasons.NOTE_EXISTED()
        self.session.run("note", self._spec.note)
        return reasons.PUBLIC_NOTE_WRITTEN() if is_public else reasons.PRIVATE_NOTE_WRITTEN()

    def _note_exists(self, text: str) -> bool:
        """Whether an earlier attempt wrote the note: the ticket has one more note with this text than other calls
        wrote."""
        rows: RowsSpec = self._spec.look_up_note
        expected = " ".join(text.split())
        texts = (plain(str(read_path(row, rows.text) or "")) for row in self.session.rows("look_up_note", rows))
        found = sum(expected in " ".join(one.split()) for one in texts)
        return found > int(self.job.prepared.get("same_notes", 0))

    def _write_fields(self) -> Reason:
        results = [self._assign()]
        prepared = self.job.prepared
        changed = {name: entry for name in ("team", "priority") if (entry := prepared.get(name))}
        if changed and self._spec.update is not None:
            for name, entry in changed.items():
                self.session.values |= entry_values(name, entry)
            self.session.run("update", self._spec.update)
            if team := changed.get("team"):
                results.append(reasons.TEAM_SET(team=team["name"]))
            if priority := changed.get("priority"):
                results.append(reasons.PRIORITY_SET(priority=priority["name"]))
        return joined(*filter(None, results))

    def _assign(self) -> Reason:
        agent, remark = self.job.prepared.get("agent"), self.job.prepared.get("remark") or NO_REASON
        wanted = self.job.prepared.get("look_up")
        if agent is None and wanted and self._spec.look_up_user is not None:
            self.session.values["email"] = wanted
            agent = self.session.find("look_up_user", self._spec.look_up_user)
            remark = NO_REASON if agent is not None else remark
        if agent is not None and not agent["number"] and not (self._spec.nobody or self._spec.unassign):
            agent, remark = None, reasons.DESK_UNASSIGNS_NOT(desk=self.session.label)
        if remark:
            self.job.progress["remark"] = reason_as_json(remark)
        if agent is None or self._spec.assign is None:
            return NO_REASON
        if agent["number"]:
            self.session.values |= entry_values("agent", agent)
            self.session.run("assign", self._spec.assign)
            return reasons.AGENT_ASSIGNED(agent=agent["name"] or agent["number"])
        nobody = self._spec.nobody
        self.session.values |= entry_values("agent", {"number": "" if nobody == "null" else nobody, "name": ""})
        self.session.run("unassign" if self._spec.unassign else "assign", self._spec.unassign or self._spec.assign)
        return reasons.AGENT_UNASSIGNED()

    def _write_status(self) -> Reason:
        status = self.job.prepared.get("status")
        if not status:
            return NO_REASON
        self.session.values |= entry_values("status", status)
        is_closing = self.job.content.get("event") == "close" and self._spec.close is not None
        name = "close" if is_closing else "status"
        request = getattr(self._spec, name)
        if request is None:
            return NO_REASON
        self.session.run(name, request)
        return reasons.STATUS_SET(status=status["name"])


# ---------- kinds


#: How a file's authentication is carried out.
_AUTH: Mapping[str, HttpAuth] = {
    "basic": HttpAuth.BASIC, "bearer": HttpAuth.BEARER, "header": HttpAuth.HEADER,
    "client_credentials": HttpAuth.OAUTH2, "password": HttpAuth.OAUTH2,
}  # fmt: skip


def _open(desk: Desk, account: IntegrationAccount, client: HttpClient) -> DeskSender:
    rate = RateLimit.per_second(account.settings.get("rate", desk.spec.rate), _BURST)
    return DeskSender(account, desk, rate, HttpCaller(_http_account(desk, account), client, rate))


def _http_account(desk: Desk, account: IntegrationAccount) -> IntegrationAccount:
    """The authentication that the file describes, as the settings of an HTTP call."""
    auth = desk.spec.auth
    own = {name: account.settings.get(name) or one.default for name, one in desk.spec.settings.items()}
    values = own | dict(account.secrets)
    filled = {
        key: inputs.render(getattr(auth, key), values)
        for key in ("username", "password", "token", "client_id", "client_secret", "scope")
    }
    settings = {"auth": str(_AUTH[auth.kind]), **{key: filled[key] for key in ("username", "client_id", "scope")}}
    if auth.token_path:
        settings["token_url"] = f"{account.settings.get('base_url', '')}{auth.token_path}"
    if auth.header:
        settings["header_name"] = auth.header
    if auth.kind == "password":
        settings["grant"] = "password"
    secrets = {key: filled[key] for key in ("password", "token", "client_secret")}
    return IntegrationAccount(account.id, account.name, settings, secrets)


def _kind(desk: Desk) -> ConnectorKind:
    return ConnectorKind(
        name=desk.name,
        title=desk.spec.title,
        description=desk.spec.description,
        open_sender=lambda account, client: _open(desk, account, client),
        spec=_spec_type(desk),
        secret_names=tuple(name for name, one in desk.spec.settings.items() if one.secret),
        label=desk.label,
        ticket_url=desk.spec.ticket_url,
        list_names=tuple(desk.spec.lists),
        desk=desk,
    )


DESKS: tuple[ConnectorKind, ...] = tuple(_kind(desk) for desk in load_desks().values())
