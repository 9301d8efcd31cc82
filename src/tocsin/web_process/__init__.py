"""Runs the UI and the API in a separate process, so that their requests never take the interpreter from paging.

`process` is that process; `proxy` starts and supervises it, and forwards requests to it.
"""
