"""Stand-in providers that speak the real protocols over real HTTP, for development and for tests.

This file imports nothing, so that the terminal can import `workspace` without loading the web server.
"""
