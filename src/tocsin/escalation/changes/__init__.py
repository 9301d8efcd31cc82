"""Changes to escalation policies: commands, reachability checks, and deletion guards."""
