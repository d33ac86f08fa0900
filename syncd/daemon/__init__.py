"""The long life of syncd: when jobs run, who runs them, and how it starts, reloads and ends.

Knows when, never what.
"""
