"""From interaction logs and a catalogue to index sequences, splits and a vocabulary."""
