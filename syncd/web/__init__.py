"""Web listener: status page, JSON, metrics, health checks and the push webhook."""
