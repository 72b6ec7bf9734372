"""Everything that scores items: the item table, encoders, students and teachers."""
