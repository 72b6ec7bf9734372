"""Recommendations for a whole file of users."""
