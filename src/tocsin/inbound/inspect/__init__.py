"""Inspection of stored messages: explanation, trace, replay, and fresh ids for samples."""
