"""Claims about the store."""
