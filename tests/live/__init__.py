"""Questions about GitHub that only a real server can answer; `make live` asks them (docs/development/live.md)."""
