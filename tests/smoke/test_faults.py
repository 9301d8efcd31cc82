"""Faults around Tocsin: its database, the mail server, slow senders, and termination signals."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx

from tests.doubles.http import http_double
from tests.doubles.smtp import SmtpDouble, smtp_double
from tests.support.installation import CONFIGURATION, HALO_TOKEN, Installation, Node, ask, ticket, until
from tests.support.load_generator import LoadGenerator, named, nothing_answered_is_lost, send_again
from tocsin.core.embedded_server import EmbeddedPostgres


def is_ready(node: Node) -> bool:
    return ask("GET", f"{node.url}/readyz").status == 200


@contextmanager
def nobody_starts_postgres(tocsin: Installation) -> Iterator[None]:
    """Holds the lock under which the embedded server is started, as one does who takes long to."""
    with (EmbeddedPostgres(tocsin.data_dir).location / "change.lock").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_killed_postgresql_is_restarted_and_senders_are_asked_to_retry(single: Installation, mails: SmtpDouble) -> None:
    node = single.serve()
    until("it is ready", lambda: is_ready(node), 30)
    postgres_pid = single.postgres_pid
    with LoadGenerator([node.url], range(1, 241)) as load:
        with nobody_starts_postgres(single):
            # At once, so that the senders are not through yet.
            load.wait_for(20)
            os.kill(postgres_pid, signal.SIGKILL)
            until("a sender is refused", lambda: load.unanswered)
            refused = single.post(ticket(900))
            assert (refused.status, refused.json()["error"]) == (503, "not_stored")
            assert int(refused.headers["Retry-After"]) > 0
            unknown = ask("POST", f"{node.url}/in/{'f' * 32}", ticket(900))
            assert (unknown.status, unknown.headers["Retry-After"]) == (503, "5")
            for path in ("/readyz", "/api/v1/alerts", "/alerts/"):
                headers = {"Authorization": f"Bearer {single.token}", "Cookie": f"tocsin_session={'n' * 32}"}
                assert ask("GET", f"{node.url}{path}", headers=headers).status == 503
            assert ask("GET", f"{node.url}/healthz").status == 200
        until("it has recovered", lambda: is_ready(node), 30)
        load.finish()
    assert all("503" in problem for problem in load.unanswered.values()), load.unanswered
    send_again(single, load, node)
    nothing_answered_is_lost(single, load)
    assert single.api("alerts?limit=1")["items"]

    def all_paged() -> bool:
        single.jump(seconds=10)
        return set(named(mails.mails)) == set(load.answered)

    until("every alert has paged", all_paged, 30)
    assert node.terminate() == 0


def test_lost_connections_to_the_database_are_made_again(tocsin: Installation, mails: SmtpDouble) -> None:
    node = tocsin.serve()
    with LoadGenerator([node.url], range(1, 121)) as load:
        for count in (30, 60, 90):
            load.wait_for(count)
            tocsin.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        load.finish()
    assert load.unanswered == {}
    nothing_answered_is_lost(tocsin, load)
    until("it is ready", lambda: is_ready(node))
    assert tocsin.api("alerts?limit=1")["items"]
    tocsin.jump(seconds=10)
    until("the rest of the pages have left", lambda: set(named(mails.mails)) == set(load.answered))


def test_a_page_leaves_when_the_mail_server_is_back(tocsin: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    tocsin.serve(TOCSIN_SMTP_URL=f"smtp://127.0.0.1:{port}")
    number = tocsin.post(ticket(7)).json()["alert_id"]

    def tried() -> dict[str, object] | None:
        (delivery,) = tocsin.api(f"deliveries?alert_id={number}")["items"] or [None]
        return delivery if delivery and delivery["error"] and delivery["status"] == "queued" else None

    delivery = until("it was tried", tried)
    assert "refused" in delivery["error"]["text"].lower()
    with smtp_double(port=port) as mails:
        tocsin.jump(seconds=10)
        until("the page arrives", lambda: mails.mails)
        until(
            "it is known to be sent",
            lambda: [one["status"] for one in tocsin.api(f"deliveries?alert_id={number}")["items"]] == ["sent"],
        )
        assert len(mails.mails) == 1


def test_clients_sending_one_byte_block_no_others(tocsin: Installation, mails: SmtpDouble) -> None:
    node = tocsin.serve()
    host, port = "127.0.0.1", int(node.url.rsplit(":", 1)[1])
    with ExitStack() as stack:
        for beginning in (b"P", b"POST /account/login/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nl"):
            for _ in range(8):
                client = stack.enter_context(socket.create_connection((host, port)))
                client.sendall(beginning)
        assert ask("GET", f"{node.url}/account/login/").status == 200
        assert tocsin.api("alerts")["items"] == []
        assert tocsin.post(ticket(7)).json()["status"] == "Mapped Opened"
        until("the page arrives", lambda: mails.mails, 5)


def test_sigterm_answers_what_is_in_flight_and_exits_0(tocsin: Installation) -> None:
    node = tocsin.serve()
    host, port = "127.0.0.1", int(node.url.rsplit(":", 1)[1])
    body = b'{"id": 5000, "summary": "VPN 5000 down", "status": "New"}'
    header = f"POST /in/{HALO_TOKEN} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    with LoadGenerator([node.url], range(1, 2001)) as load, socket.create_connection((host, port), timeout=20) as half:
        half.sendall(header.encode() + body[:20])
        load.wait_for(50)
        node.process.send_signal(signal.SIGTERM)
        # Whoever comes now is not let in.
        until("new senders are refused", lambda: any("refused" in text for text in load.unanswered.values()))
        load.stop()
        half.sendall(body[20:])
        answer = half.makefile("rb").read()
        assert node.process.wait(30) == 0
    assert answer.startswith(b"HTTP/1.1 200 ")
    match = re.search(rb'"message_id":"([-0-9a-f]+)"', answer)
    assert match is not None
    load.answered[5000] = {"message_id": match[1].decode(), "status": "Pending"}
    assert not any("503" in problem for problem in load.unanswered.values())
    nothing_answered_is_lost(tocsin, load)


def test_sigterm_ends_an_open_live_stream_within_seconds(tocsin: Installation) -> None:
    done = tocsin.run(
        "user", "create", "dave", "--email", "dave@example.org", "--password-stdin", typed="correct horse battery\n"
    )
    assert done.returncode == 0, done.stderr
    node = tocsin.serve()
    with httpx.Client(base_url=node.url, follow_redirects=True, timeout=20) as browser:
        page = browser.get("/account/login/")
        protection = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert protection is not None
        entry = {"login": "dave", "password": "correct horse battery", "csrfmiddlewaretoken": protection[1]}
        assert "tocsin_session" in browser.post(page.url, data=entry).history[0].cookies
        with browser.stream("GET", "/live") as stream:
            events = stream.iter_lines()
            assert stream.status_code == 200
            assert next(line for line in events if line.startswith("event:")) == "event: tick"
            tocsin.post(ticket(7))
            assert next(line for line in events if line == "event: hint")
            node.process.send_signal(signal.SIGTERM)
            # It is ended, not cut.
            for _ in events:
                pass
            assert node.process.wait(8) == 0


def test_apply_beside_a_running_node_takes_effect_at_once(tocsin: Installation) -> None:
    node = tocsin.serve()
    # A user's command ends some moments after its commit, in which the node hears of it.
    tocsin.is_forked = False
    integration = f"{node.url}/in/{'a' * 32}"
    assert ask("POST", integration, ticket(1)).status == 404
    second = CONFIGURATION[CONFIGURATION.index("integrations:") :]
    tocsin.apply(second.replace("name: HaloITSM", "name: Second").replace(HALO_TOKEN, "a" * 32))
    assert ask("POST", integration, ticket(1)).json()["status"] == "Mapped Opened"
    tocsin.apply("integrations: [{name: Second, kind: haloitsm, mode: disabled}]")
    answer = ask("POST", integration, ticket(2)).json()
    assert (answer["status"], answer["reason"]) == ("Mapped Ignored", "the integration is disabled")


def test_what_cannot_start_says_why_in_one_line(tocsin: Installation) -> None:
    unknown = tocsin.run("serve", "--port", "0", TOCSIN_SMPT_URL="smtp://localhost")
    assert (unknown.returncode, unknown.stdout) == (78, "")
    assert unknown.stderr.startswith("tocsin: TOCSIN_SMPT_URL is not a variable that Tocsin knows.")
    assert unknown.stderr.count("\n") == 1
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        busy = tocsin.run("serve", "--port", str(port))
    assert busy.returncode != 0
    assert busy.stdout == ""
    assert f"127.0.0.1:{port}" in busy.stderr
    assert busy.stderr.count("\n") == 1


def test_the_heartbeat_is_pinged_only_while_paging_works(tocsin: Installation) -> None:
    with http_double() as outside:
        settings = {"TOCSIN_HEARTBEAT_URL": f"{outside.url}/ping", "TOCSIN_SMTP_URL": "smtp://127.0.0.1:1"}
        node = tocsin.serve(**settings)
        until("it is pinged", lambda: outside.requests, 40)
        assert {request.path for request in outside.requests} == {"/ping"}
        tocsin.post(ticket(7))
        until("the page is tried", lambda: tocsin.rows("SELECT 1 FROM notify_delivery WHERE attempts > 0"))
        assert node.terminate() == 0
        pings = len(outside.requests)
        # The page has not left for two minutes. A node audits when it starts, unless another just has.
        tocsin.jump(minutes=2)
        tocsin.rows("UPDATE operate_audit SET checked_at = 'epoch' RETURNING id")
        tocsin.serve(**settings)
        until("it is audited", lambda: tocsin.rows("SELECT 1 FROM operate_audit WHERE checked_at > 'epoch'"), 40)
        assert tocsin.nodes[-1].terminate() == 0
        assert len(outside.requests) == pings
        assert "Contact the people on call manually" in tocsin.nodes[-1].log
