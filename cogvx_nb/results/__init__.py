"""Everything in the outputs folder. No torch."""
