"""Writes docs/how-to/providers/README.md, the one list of channels and providers. Run by `make reference`.

The rows are read from the classes. A test says when the file is out of date.
"""

import os
from pathlib import Path

import django

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "how-to" / "providers" / "README.md"

INTRODUCTION = """\
# Channels and providers

A contact method is an address on a channel; a provider carries the channel's messages. Administrators add and test
providers under **Providers**; several providers of one channel
[fail over](../../concepts/notifications.md#channels-and-providers) to each other. Replies and receipts need a public
`https://` address of Tocsin (`TOCSIN_BASE_URL`).

This page is written by `make reference`.
"""

_BUILT_IN = {"web_push": "../push.md", "chat_services": "../chat.md"}


def main() -> None:
    DOCUMENT.write_text(document(), encoding="utf-8")


def document() -> str:
    """The whole page."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tocsin.settings")
    django.setup()
    from tocsin.notify.providers.pool import BUILT_IN, CHANNELS, KINDS

    providers = [
        (
            f"[{kind.label}]({_BUILT_IN.get(kind.name, f'{kind.name}.md')})",
            ", ".join(CHANNELS[name].label for name in kind.channels),
            kind.description,
            "yes" if kind.reply_channels else "",
            "yes" if kind.receipt_channels else "",
        )
        for kind in (*KINDS.values(), *BUILT_IN)
    ]
    channels = [
        (
            channel.label,
            f"`{channel.name}`",
            channel.address_help,
            "yes" if channel.is_loud else "",
            ", ".join(kind.label for kind in (*KINDS.values(), *BUILT_IN) if channel.name in kind.channels),
        )
        for channel in CHANNELS.values()
    ]
    return (
        INTRODUCTION
        + _table("Providers", ("provider", "channels", "", "replies", "receipts"), providers)
        + "\nThe last two are built in: they need no account, and are used for addresses of their own.\n"
        + _table("Channels", ("channel", "in YAML and API", "address", "makes a phone ring", "providers"), channels)
    )


def _table(title: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return f"\n## {title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
