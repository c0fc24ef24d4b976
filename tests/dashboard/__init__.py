"""Tests of the dashboard: what it makes of the API, and what an operator does in a real browser."""
