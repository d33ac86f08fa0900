"""The nothing-to-do check of a one-shot: what it relies on (snapshot.py), and the check
(check.py).
"""
