"""How well recommenders rank: metrics, intervals, slices, agreement of two models, and verdicts."""
