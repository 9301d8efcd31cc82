"""Shared parts of the endpoints: authentication, routing, lookup, pagination, ETags."""
