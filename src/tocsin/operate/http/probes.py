"""`/healthz`, `/readyz` and `/metrics` as raw ASGI: answered in bounded time, even while Django's threads are busy."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from tocsin.core.net.asgi import AsgiScope, Receive, Send, send_error, send_response
from tocsin.core.runtime import metrics
from tocsin.core.runtime.periodic_tasks import Worker
from tocsin.inbound.processing.committer import MAX_WAIT_SECONDS, Committer
from tocsin.operate import readiness
from tocsin.operate.http.metrics import MetricsApp
from tocsin.operate.single_flight import SingleFlight
from tocsin.operate.tasks import HEARTBEAT_TASK

_TEXT = b"text/plain; charset=utf-8"
_NO_STORE = ((b"cache-control", b"no-store"),)

#: In seconds: a readiness check without a result by then fails.
DEADLINE = 4.0

#: Each node writes its own row every few seconds. If that has failed for this long, no message can be stored.
NO_WRITES = timedelta(seconds=30)

#: In seconds: for how long a rejected message counts, unless one has been stored since. Then the node is ready again,
#: because without messages it cannot find out whether it can store them.
REJECTED_WITHIN = 10.0


class ProbesApp:
    """The probes of this node.

    `is_listening` returns whether the thread that restarts dead tasks is alive; `web_process_problem` returns why the
    web process is missing.
    """

    def __init__(
        self,
        *,
        worker: Worker,
        committer: Committer | None,
        is_listening: Callable[[], bool],
        web_process_problem: Callable[[], str | None] | None = None,
    ) -> None:
        self._worker = worker
        self._committer = committer
        self._is_listening = is_listening
        self._web_process_problem = web_process_problem
        self._readiness = SingleFlight("readiness", readiness.problem)
        self._metrics = MetricsApp(committer)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answers one probe."""
        if scope["method"] not in ("GET", "HEAD"):
            await send_error(send, 405, "method_not_allowed", "Ask with GET.", headers=((b"allow", b"GET, HEAD"),))
            return
        match scope["path"]:
            case "/healthz":
                await _respond(send, self.problem_with_health())
            case "/readyz":
                await _respond(send, self.problem_with_health() or await self.problem_with_readiness())
            case "/metrics":
                await self._metrics(scope, receive, send)
            case _:
                await send_error(send, 404, "not_found", "There is no such probe.")

    def problem_with_health(self) -> str | None:
        """Why this process should be restarted, as a sentence; None while it and its tasks are alive. No I/O."""
        if self._committer is not None and not self._committer.is_alive():
            return "The committer has ended."
        if not self._is_listening():
            return "The listener has ended."
        if not self._worker.is_healthy():
            return "Loops died twice within a minute."
        return self._web_process_problem() if self._web_process_problem is not None else None

    async def problem_with_readiness(self) -> str | None:
        """Why this node should not receive messages now, as a sentence; None if it can accept them."""
        try:
            problem = await self._readiness.result(DEADLINE)
        except TimeoutError:
            return f"The database gave no answer within {DEADLINE:.0f} seconds."
        return str(problem) if problem else self._problem_with_writing()

    def _problem_with_writing(self) -> str | None:
        if self._committer is not None and self._committer.queue_status().oldest_age_seconds > MAX_WAIT_SECONDS:
            return "Messages have waited too long to be stored."
        rejecting = metrics.seconds_rejecting()
        if rejecting is not None and rejecting < REJECTED_WITHIN:
            return "The last message could not be stored."
        since_write = self._worker.since_run(HEARTBEAT_TASK)
        has_stored = metrics.seconds_since_commit() < NO_WRITES.total_seconds()
        if since_write is not None and since_write > NO_WRITES and not has_stored:
            return "The database has taken no write of this node for a while."
        return None


async def _respond(send: Send, problem: str | None) -> None:
    if problem is None:
        await send_response(send, 200, b"ok", content_type=_TEXT, headers=_NO_STORE)
    else:
        await send_response(send, 503, problem.encode(), content_type=_TEXT, headers=_NO_STORE)
