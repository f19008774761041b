"""What happens: the steps of signing in, and what is done to accounts. No HTTP types; no network in a transaction."""
