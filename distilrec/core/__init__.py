"""The ground: contracts, errors and files that everything else stands on. Imports nothing else of ours."""
