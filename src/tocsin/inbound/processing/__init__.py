"""Processing of messages: the committer and its batches, pending messages, and delayed alerts."""
