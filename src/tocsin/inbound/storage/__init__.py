"""Database access of inbound: messages, dedup keys, noise reduction state, search index and retention."""
