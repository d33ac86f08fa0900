"""A small GitHub for tests and for `syncd demo`.

It has real blobs, trees and commits with git's own ids, Apps, tokens, limits and a clock of its
own, and it fails on request. `GitHub.handle` answers in memory; `serve` answers on loopback over
real sockets. Both count the requests.
"""
