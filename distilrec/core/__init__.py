"""Contracts, errors and files that all other packages use. Imports no other package of ours."""
