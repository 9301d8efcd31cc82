"""A connection that writes without asking first whether it may.

psycopg asks the operating system before each statement of a pipeline whether the socket takes it, and hands the
interpreter to another thread meanwhile: with a busy one beside it, a batch of sixteen statements waits for its turn
sixteen times. A socket nearly always takes it; where it does not, libpq keeps what is left, and what the pipeline waits
for at its end has it written.
"""

from __future__ import annotations

from psycopg import errors
from psycopg.abc import PQGen
from psycopg.waiting import Ready, Wait

from tocsin.core.db.guarded_connection import GuardedConnection

#: So often at most in a row: what is not written after that is waited for.
_TIMES = 8


class PipelinedConnection(GuardedConnection):
    """A connection for pipelines in a process whose other threads are busy."""

    def wait[T](self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """As psycopg's own, which is not documented, but a wait for a socket that can be written to is over at once."""
        try:
            return super().wait(_writing_first(gen), interval, timeout)
        except errors.ReadOnlySqlTransaction:
            # These connections are for writing. The pool replaces a closed one as soon as it is returned.
            self.close()
            raise


def _writing_first[T](work: PQGen[T]) -> PQGen[T]:
    try:
        state = next(work)
        for _ in range(_TIMES):
            if state != Wait.RW:
                break
            state = work.send(Ready.W)
        while True:
            state = work.send((yield state))
    except StopIteration as end:
        result: T = end.value
        return result
