"""Searching student settings by validation NDCG@10 and measured latency, with Optuna."""
