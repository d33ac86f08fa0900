"""A small true GitHub: real blobs, trees and commits with git's own ids, Apps, tokens, limits and a clock of its own; and trouble on demand.

One core, two doors: `GitHub.handle` in memory, and `serve` on loopback over real sockets. It counts what it is asked.
"""
