"""The settings of Apple: our Services ID and key in its developer account, and its endpoints."""

from collections.abc import Mapping
from typing import ClassVar

from nextarget.model import Secret
from nextarget.settings.declaring import Kind, declares_settings, setting
from nextarget.settings.kinds import CLIENT_ID, ENDPOINT, list_of, matching
from nextarget.settings.provider_settings import ProviderSettings

_TEN = r"[A-Z0-9]{10}"
"""A team id and a key id have ten capital letters and digits."""


def _private_key(text: str) -> Secret:
    """The text of a .p8 file: PKCS #8 in PEM, a key on P-256, as ES256 needs it (RFC 7518, 3.4)."""
    # Few servers have this setting, and most commands of the terminal need no cryptography.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    wrong = "is no private key of Apple's. Name the .p8 file from its Keys with APPLE_PRIVATE_KEY_FILE."
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: the key is encrypted
        raise ValueError(wrong) from None
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise ValueError(wrong)  # noqa: TRY004 - a wrong value, not an internal error
    return Secret(text)


_PRIVATE_KEY: Kind[Secret] = Kind(_private_key, "the text of a .p8 file", secret=True)


@declares_settings
class AppleSettings(ProviderSettings):
    """Apple is on when Services ID, team id, key id, private key and redirect are set. It has no client secret: the
    private key signs one when it is needed."""

    client_id: str = setting(CLIENT_ID, description="The *Services ID*.")
    team_id: str = setting(matching(_TEN), description="The *Team ID* of the developer account.")
    key_id: str = setting(matching(_TEN), description="The *Key ID* of the private key.")
    private_key: Secret = setting(
        _PRIVATE_KEY,
        description="The private key for Sign in with Apple, a `.p8` file.",
    )
    redirect_uri: str = setting(ENDPOINT, description="`PUBLIC_URL` + `/auth/apple/callback`.")
    client_ids: tuple[str, ...] = setting(
        list_of(CLIENT_ID),
        default=(),
        description="Bundle ids of the apps themselves, accepted in native sign-in beside `APPLE_CLIENT_ID`.",
    )
    issuer: str = setting(ENDPOINT, default="https://appleid.apple.com", description="`iss` of Apple's id_tokens.")
    authorization_endpoint: str = setting(
        ENDPOINT, default="https://appleid.apple.com/auth/authorize", description="Where Apple asks the person."
    )
    token_endpoint: str = setting(
        ENDPOINT, default="https://appleid.apple.com/auth/token", description="Where Apple redeems codes."
    )
    jwks_uri: str = setting(
        ENDPOINT, default="https://appleid.apple.com/auth/keys", description="Where Apple publishes its keys."
    )
    revocation_endpoint: str = setting(
        ENDPOINT, default="https://appleid.apple.com/auth/revoke", description="Where Apple revokes tokens."
    )

    remedies: ClassVar[Mapping[str, str]] = {
        "team_id": "Copy the ten characters from the Membership details of the developer account.",
        "key_id": "Copy the ten characters from the page of the key in the developer account.",
    }
