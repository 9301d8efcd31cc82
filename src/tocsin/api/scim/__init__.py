"""SCIM 2.0 over HTTP, at /scim/v2/: what `identity.scim` does for the provider whose token a request has."""
