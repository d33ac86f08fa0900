"""Questions that only a real GitHub can answer.

`make live` asks them: docs/development/live.md.
"""
