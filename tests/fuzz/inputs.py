"""An input of a fuzz target, and its form as a file of the corpus."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Input:
    """An input, and the variant of its target that reads it, such as a vendor."""

    variant: str
    body: bytes


def write(case: Input) -> bytes:
    """An input as a file of the corpus."""
    return case.variant.encode() + b"\n" + case.body


def read(content: bytes) -> Input:
    """The input of a file of the corpus."""
    variant, _, body = content.partition(b"\n")
    return Input(variant.decode(), body)
