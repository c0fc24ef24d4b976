"""The grid-limit bridge: a grid operator's power limit, carried over IEC 60870-5-104 to a park of EV chargers."""

__version__ = "0.1.0"
