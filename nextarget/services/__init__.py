"""The services: sign-in, sessions, accounts and upkeep. No HTTP types here, and no network call in a transaction."""
