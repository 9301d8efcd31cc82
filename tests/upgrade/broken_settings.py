"""The settings of a next version whose second migration fails."""

from tests.upgrade.next_settings import *  # noqa: F403

MIGRATION_MODULES = {"operate": "tests.upgrade.operate_broken"}
