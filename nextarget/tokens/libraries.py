"""The libraries that verify tokens, in one place, because they are imported late: they take a tenth of a start.

A server imports this module right after it listens (`web/server/runner.py`), so an installation that lacks one of them
fails at its start. Whatever verifies a token earlier, or in a command, imports it then. Signing with the secret needs
none of them.
"""

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from google.auth.crypt import RSAVerifier
from jwt import PyJWK, PyJWTError, decode

__all__ = ["PyJWK", "PyJWTError", "RSAPublicKey", "RSAVerifier", "decode"]
