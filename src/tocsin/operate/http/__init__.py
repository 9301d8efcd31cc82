"""Health probes and Prometheus metrics over HTTP."""
