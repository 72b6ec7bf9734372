"""Watching a running server, and healing it."""
