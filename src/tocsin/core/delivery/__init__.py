"""What every outbox needs: leases, fair claims, rate limits, circuit breakers, back-off, and threads that send."""
