"""The audit log as data: its hash chain, its export, and its forwarding. Imports nothing that records entries."""
