"""Ways to a server: URLs and proxies, TLS, and small HTTP requests outside the timed path."""
