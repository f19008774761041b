"""Whom we trust: each provider turns an authorization code into the same `Identity`. No database here."""
