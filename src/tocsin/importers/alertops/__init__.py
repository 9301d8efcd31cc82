"""AlertOps: read by its API v2 (https://api.alertops.com/swagger), and translated."""
