"""Outbound integrations: calls to other systems, write-back to tickets, and polling of HaloITSM."""
