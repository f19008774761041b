"""What each provider declares of its settings, in a file of the same name as the provider's code. Light: no network."""
