"""Training sequences, item indices and soft targets, as training reads them."""
