"""One stand-in a provider, and what they share."""
