"""Soft targets: what teachers think, on disk."""
