"""The dashboard: a process of its own that shows people what the API says, and lets them act through it."""
