"""Processes, threads, clocks, periodic tasks, logging and metrics of a node."""
