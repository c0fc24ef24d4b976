"""The business, pure: what a limit is, whose it is, who gets how much of it and what may be said about it."""
