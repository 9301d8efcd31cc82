"""Mail replies: polls mailboxes, parses replies and bounces, and carries out their commands."""
