"""Tokens that we sign to prove who we are at a provider. `nextarget.providers` may not sign anything itself: this room
alone does. The libraries are imported at use: a server begins to listen before that, and most have no use for them.
"""

from collections.abc import Mapping
from pathlib import Path

from nextarget.errors import OperatorError
from nextarget.model import Secret


def sign_client_assertion(claims: Mapping[str, str | int], key: Secret, *, key_id: str, algorithm: str) -> str:
    """The JWT that a provider takes in place of a fixed client secret (RFC 7523, 3; Apple calls it a client secret), in
    its compact form. `key` is PEM; times among the claims are seconds (RFC 7519, 2)."""
    import jwt

    return jwt.encode(dict(claims), key.reveal(), algorithm=algorithm, headers={"kid": key_id})


def service_account_token(file: Path, *, audience: str) -> str:
    """A token of a Google service account for one API, valid for an hour: a JWT that its key, the `file`, signs. No
    request is sent for it.

    https://developers.google.com/identity/protocols/risc#auth_token. Raises OperatorError.
    """
    from google.auth.exceptions import GoogleAuthError
    from google.auth.jwt import Credentials

    try:
        credentials = Credentials.from_service_account_file(str(file), audience=audience)  # type: ignore[no-untyped-call]
        credentials.refresh(None)
        token: bytes = credentials.token
    except OSError as error:
        raise OperatorError(f"{file} cannot be read ({error.strerror}). Check the path and its permissions.") from None
    except (GoogleAuthError, ValueError, TypeError, AttributeError, LookupError, RecursionError):
        raise OperatorError(
            f"{file} is not the key of a service account. In Google's console, open the service account, and under "
            "Keys add a key of the type JSON."
        ) from None
    return token.decode()
