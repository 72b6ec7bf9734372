"""Load on a served recommender: arrivals, requests, several client processes, and what they saw."""
