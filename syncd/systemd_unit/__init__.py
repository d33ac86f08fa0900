"""Writes the systemd drop-in that a configuration needs."""
