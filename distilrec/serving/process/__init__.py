"""One tritonserver: finding, starting, securing and stopping it."""
