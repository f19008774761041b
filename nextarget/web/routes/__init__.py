"""One file for each group of routes.

A GET answers HEAD too (RFC 9110, 9.3.2): `add_get` sees to it, unless a route says that asking changes something.
"""
