"""What everything stands on: configuration, clock, ids, secrets, database. Imports nothing above it."""
