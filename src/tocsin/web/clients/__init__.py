"""What client observers see: the alerts and reports of their clients."""
