"""Runs the operator's commands, with limits and with the files that they check."""
