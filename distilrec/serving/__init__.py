"""Finding, starting and stopping a real tritonserver."""
