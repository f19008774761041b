"""Stand-in providers that speak the real protocols over real HTTP, for development and for tests.

Nothing is imported here: the terminal asks `workspace` for settings without paying for the web server.
"""
