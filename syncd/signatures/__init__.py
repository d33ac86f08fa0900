"""Verifies signatures of commits and tags on this machine, against a file of allowed signers.

SSH signatures are verified in this process by cryptography, OpenPGP signatures by gpgv. Where
objects come from, and what a refused commit means, is left to others.
"""
