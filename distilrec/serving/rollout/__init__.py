"""Rollout of a new version of the served models, and the way back."""
