"""What turns a user vector into the top K. The exhaustive head is a part of the graph; the approximate one is a package of files."""
