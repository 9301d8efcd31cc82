"""AlertOps: read through its API v2 (https://api.alertops.com/swagger) and converted."""
