"""The examples of docs/how-to/configuration.md apply, and it names every setting and top-level key."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import pytest

from tocsin.configure import config_files, plan, yaml_loader
from tocsin.configure.config_files import TOP_KEYS
from tocsin.core.config import settings_store

TEXT = (Path(__file__).parents[3] / "docs" / "how-to" / "configuration.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


def test_every_setting_and_top_key_is_documented_with_its_default() -> None:
    for key in TOP_KEYS:
        assert f"`{key}`" in TEXT, key
    for setting in settings_store.SETTINGS.values():
        default = str(setting.default).lower() if isinstance(setting.default, bool) else str(setting.default)
        name = re.sub("^content_.*", "content_CHANNEL`, such as `content_sms", setting.name)
        assert re.search(rf"\| `{name}` \| {re.escape(default)} ?\|", TEXT), name


@pytest.mark.usefixtures("database")
def test_every_example_is_applied_and_comes_back_unchanged(now: datetime) -> None:
    assert len(BLOCKS) == 16
    expected = config_files.collect([yaml_loader.parse(block, "configuration.md", Path()) for block in BLOCKS])
    done = plan.apply(expected, prune=False, now=now)
    assert len(done.lines) >= len(BLOCKS)
    assert plan.apply(expected, prune=True, now=now).is_empty
    text = plan.write(plan.export_configuration(with_secrets=True))
    again = config_files.collect([yaml_loader.parse(text, "export.yaml", Path())])
    assert plan.apply(again, prune=True, now=now).is_empty
