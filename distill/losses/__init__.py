"""What is learned from true items and from soft targets."""
