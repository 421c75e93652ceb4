"""What is wanted, and how this machine will do it. No torch."""
