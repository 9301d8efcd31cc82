"""OpenID Connect: discovery, the exchange of a code, and the checks of tokens."""
