"""Simulations with the live decision code: payloads, policies, backtests, and previews. Nothing is stored or sent."""
