"""Every sample of the catalogue in forms that nobody tuned the types to."""
