"""The periodic self-check that paging works, and the external heartbeat."""
