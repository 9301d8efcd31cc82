"""Write-back of alert changes to tickets, and recognition of Tocsin's own writes."""
