"""How an identity authenticates: a GitHub App, a token, a user who logged in, or nothing."""
