"""Training with PyTorch and Lightning: teachers, soft targets, students."""
