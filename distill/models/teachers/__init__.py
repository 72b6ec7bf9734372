"""Teachers: models whose opinion a student learns."""
