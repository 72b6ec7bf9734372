"""Comparison of the student with other people's recommenders: the same requests, on the same machine."""
