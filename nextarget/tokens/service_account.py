"""The key of a Google service account, which authorizes a command of the operator at an API of Google's."""

from pathlib import Path

from nextarget.errors import OperatorError


def bearer_token(file: Path, *, audience: str) -> str:
    """A token for one API, valid for an hour: a JWT that the service account's key signs. No request is sent for it.

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
