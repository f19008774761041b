"""The routes of the server, one file per group.

A route for GET answers HEAD too (RFC 9110, 9.3.2): `add_get` adds that, except where a route changes something and sets
`allow_head=False`.
"""
