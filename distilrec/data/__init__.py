"""Interaction logs and a catalogue in; index sequences, splits and a vocabulary out."""
