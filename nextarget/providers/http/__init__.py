"""Requests to a provider: the client, its circuit breaker, its way out."""
