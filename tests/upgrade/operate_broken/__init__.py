"""Migrations of `operate`, the last of which fails."""

from tests.upgrade import operate_next

__path__ += operate_next.__path__
