"""Handover notes: what an outgoing user leaves to the incoming one, mailed to both when the shift changes."""
