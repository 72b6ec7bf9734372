"""Serving with tritonserver: start and stop, rollout of new versions, health."""
