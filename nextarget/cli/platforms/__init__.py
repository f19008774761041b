"""Commands that set things up at the providers."""
