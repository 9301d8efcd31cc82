"""A connection that writes to its socket without first polling whether it is writable.

psycopg polls before each statement of a pipeline, which releases the interpreter. Beside a busy thread, a batch of
sixteen statements then waits for the interpreter sixteen times. A socket is nearly always writable; if not, libpq
buffers the rest and sends it at the end of the pipeline.
"""

from __future__ import annotations

from psycopg import errors
from psycopg.abc import PQGen
from psycopg.waiting import Ready, Wait

from tocsin.core.db.guarded_connection import GuardedConnection

#: Maximum consecutive writes without polling. After that, the connection waits until the socket is writable.
_MAX_WRITES_WITHOUT_POLL = 8


class PipelinedConnection(GuardedConnection):
    """A connection for pipelines in a process whose other threads are busy."""

    def wait[T](self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Extends psycopg's undocumented method: a wait for a writable socket returns at once."""
        try:
            return super().wait(_writing_first(gen), interval, timeout)
        except errors.ReadOnlySqlTransaction:
            # These connections are used for writing. The pool replaces a closed one as soon as it is returned.
            self.close()
            raise


def _writing_first[T](work: PQGen[T]) -> PQGen[T]:
    try:
        state = next(work)
        for _ in range(_MAX_WRITES_WITHOUT_POLL):
            if state != Wait.RW:
                break
            state = work.send(Ready.W)
        while True:
            state = work.send((yield state))
    except StopIteration as end:
        result: T = end.value
        return result
