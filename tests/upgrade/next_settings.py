"""The settings of the next version: processes that use them are upgraded, and migrate the database."""

import tocsin as tocsin_module
from tocsin.settings import *  # noqa: F403

tocsin_module.__version__ = "99.0.0"

MIGRATION_MODULES = {"operate": "tests.upgrade.operate_next"}
