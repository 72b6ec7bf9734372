"""Teachers: models whose soft targets a student learns from."""
