"""Tocsin: self-hosted alert management and on-call paging."""

__version__ = "0.1.0"
