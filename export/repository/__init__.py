"""The Triton model repository and its versions."""
