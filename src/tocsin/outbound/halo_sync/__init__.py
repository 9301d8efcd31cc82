"""Synchronization with HaloITSM: polling, webhooks, notes, and commands."""
