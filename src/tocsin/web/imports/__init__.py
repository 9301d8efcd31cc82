"""Importing the configuration of another product."""
