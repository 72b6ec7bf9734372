"""DistilRec: distil a large recommender into one that answers in milliseconds, with proof of what it kept.

This package holds what the stages share (contracts, data, metrics) and the command line. Importing it never loads torch.
"""

__version__ = "0.1.0"
