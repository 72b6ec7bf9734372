"""Losses, each declared in a module of its own, and how they are combined."""
