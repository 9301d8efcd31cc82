"""Callbacks of notification providers."""
