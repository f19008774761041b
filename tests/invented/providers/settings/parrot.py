"""The settings of the invented provider."""

from typing import ClassVar

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from nextarget.model import Secret
from nextarget.settings.declaring import Kind, declares_settings, setting
from nextarget.settings.kinds import CLIENT_ID, ENDPOINT, list_of
from nextarget.settings.provider_settings import ProviderSettings, Text
from nextarget.settings.validators import credential


def _signing_key(text: str) -> Secret:
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, EllipticCurvePrivateKey):  # another kind of key is a wrong value, not an internal error
        raise ValueError("is no private key on an elliptic curve. Download it from the provider's console again.")  # noqa: TRY004
    return Secret(text)


@declares_settings
class ParrotSettings(ProviderSettings):
    """The provider is on when all four credentials are set. None of them is a client secret."""

    client_id: str = setting(CLIENT_ID, description="The client id.")
    key_id: str = setting(Kind(credential), description="The id of the private key.")
    private_key: Secret = setting(Kind(_signing_key, secret=True), description="The private key, PEM.")
    redirect_uri: str = setting(ENDPOINT, description="`PUBLIC_URL` + `/auth/parrot/callback`.")
    client_ids: tuple[str, ...] = setting(
        list_of(CLIENT_ID), default=(), description="Client ids of the apps themselves."
    )
    issuer: str = setting(ENDPOINT, default="https://parrot.example", description="`iss` of id_tokens.")
    authorization_endpoint: str = setting(
        ENDPOINT, default="https://parrot.example/authorize", description="Where it asks."
    )
    token_endpoint: str = setting(
        ENDPOINT, default="https://parrot.example/token", description="Where it redeems codes."
    )
    jwks_uri: str = setting(ENDPOINT, default="https://parrot.example/keys", description="Where it publishes its keys.")

    shown_query: ClassVar[frozenset[str]] = frozenset({"plumage"})

    @classmethod
    def sends(cls, text: Text) -> frozenset[str]:
        return frozenset({"cage"})
