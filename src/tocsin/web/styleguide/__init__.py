"""The style guide for developers."""
