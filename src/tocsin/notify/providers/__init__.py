"""Configured providers: their settings, order, health, rate limits and circuit breakers."""
