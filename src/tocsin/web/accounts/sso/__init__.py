"""Sign-in by identity providers."""
