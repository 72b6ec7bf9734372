"""Examples of the client, to copy from; tests run them against a real server."""
