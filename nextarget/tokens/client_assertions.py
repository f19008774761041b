"""Signs the JWT that a provider takes in place of a fixed client secret (RFC 7523, 3; Apple calls it a client secret).

`nextarget.providers` may not sign anything itself: this room alone does.
"""

from collections.abc import Mapping

from nextarget.model import Secret


def sign_client_assertion(claims: Mapping[str, str | int], key: Secret, *, key_id: str, algorithm: str) -> str:
    """The compact form of the JWT. `key` is PEM; times among the claims are seconds (RFC 7519, 2)."""
    import jwt  # takes long to import, and a server begins to listen before that

    return jwt.encode(dict(claims), key.reveal(), algorithm=algorithm, headers={"kid": key_id})
