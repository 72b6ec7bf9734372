"""Training sequences and soft targets, as training reads them."""
