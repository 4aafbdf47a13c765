"""What steps found, and how it is shown."""
