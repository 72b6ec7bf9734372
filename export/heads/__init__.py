"""Heads, which turn a user vector into the top K: the exhaustive one is a part of the graph, the approximate one has files."""
