"""Mail as a way in: a listener and mailboxes that are read, and what a mail says as an object."""
