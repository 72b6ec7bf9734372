"""Training with Lightning, and soft targets from trained teachers."""
