"""The graph of stages, and the models of a finished run."""
