"""Claims about the status API."""
