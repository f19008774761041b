"""Ids of requests and of access tokens. They are no secrets, but nobody can compute one from others.

Python's `random` would be unique enough. But a client can compute its state from 156 ids, and then see how many ids
others got between two of its own. So a thief of a refresh token would learn when the app refreshes.
"""

import os

_BATCH = 256
_HEX_LENGTH = 32
_drawn: list[str] = []
"""Ids that were drawn in advance. One system call for each request would take longer, and can make the interpreter
switch to another thread."""

os.register_at_fork(after_in_child=_drawn.clear)


def new_id() -> str:
    """128 random bits in hex."""
    try:
        return _drawn.pop()
    except IndexError:
        text = os.urandom(_BATCH * _HEX_LENGTH // 2).hex()
        _drawn.extend(text[at : at + _HEX_LENGTH] for at in range(_HEX_LENGTH, len(text), _HEX_LENGTH))
        return text[:_HEX_LENGTH]
