"""Runs the command line as `python -m bridge`."""

from bridge.cli import main

main()
