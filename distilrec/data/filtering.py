"""Removal of users and items with too few interactions to learn from."""

import polars as pl


def k_core(interactions: pl.DataFrame, k: int) -> pl.DataFrame:
    """Drop users and items with fewer than ``k`` interactions, repeatedly, until all others have at least ``k``."""
    while True:
        kept = interactions.filter(pl.len().over("user_id") >= k).filter(pl.len().over("item_id") >= k)
        if len(kept) == len(interactions):
            return kept
        interactions = kept
