"""Single sign-on: the identity providers."""
