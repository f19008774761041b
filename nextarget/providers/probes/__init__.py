"""Checks of our client at a provider, for `check-config --live`. A server does not import them."""
