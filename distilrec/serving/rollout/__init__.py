"""Bringing a new version of the served models to a running server."""
