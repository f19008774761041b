"""Our clients at the stand-ins, one file for a provider: their generated texts, and the settings of the server."""
