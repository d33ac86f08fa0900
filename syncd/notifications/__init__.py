"""Tells others of a change: one message to one address. Knows nothing of jobs."""
