"""The outbox of outbound calls: queue, claim, dispatcher, and results."""
