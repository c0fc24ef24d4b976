"""Simulated peers, faults and scenarios: everything the bridge is tried against, sharing no wire code with it."""
