"""`tocsin` that gets a signal at one moment of its work, for tests of what it leaves behind then.

Run as a program: the signal, the moment, and the arguments of `tocsin`. A moment is `module:function`, just before that
is called; or `program:WORD`, while a program with the word in its command line runs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any


def _main(name: str, moment: str, arguments: list[str]) -> None:
    def stop() -> None:
        os.kill(os.getpid(), signal.Signals[name])

    place, _, what = moment.partition(":")
    if place == "program":
        _before(
            subprocess.Popen, "communicate", lambda process, *_: what in " ".join(map(str, process.args)) and stop()
        )
    else:
        # Django's models are not there yet.
        _when_imported(place, lambda module: _before(_owner(module, what), what.rpartition(".")[2], lambda *_: stop()))
    from tocsin.cli import main

    sys.argv = ["tocsin", *arguments]
    main.main()


def _when_imported(name: str, act: Callable[[Any], None]) -> None:
    from tocsin.cli import session

    if not name.startswith("tocsin.node") and "backup" not in name:
        act(import_module(name))
        return
    original = session.set_up_django

    def set_up_django() -> None:
        original()
        act(import_module(name))

    session.set_up_django = set_up_django


def _owner(module: Any, what: str) -> Any:
    owner, _, _ = what.rpartition(".")
    return getattr(module, owner) if owner else module


def _before(owner: Any, name: str, act: Callable[..., object]) -> None:
    original = getattr(owner, name)

    @wraps(original)
    def changed(*args: Any, **kwargs: Any) -> Any:
        act(*args)
        return original(*args, **kwargs)

    setattr(owner, name, changed)


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], sys.argv[3:])
