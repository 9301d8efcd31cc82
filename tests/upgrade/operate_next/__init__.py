"""The migrations of `operate` in the next version: those of this version and one more."""

from tocsin.operate import migrations

__path__ += migrations.__path__
