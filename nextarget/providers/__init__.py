"""The providers. All of them turn an authorization code into an `Identity`. No database here."""
