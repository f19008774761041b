"""The settings of the invented provider."""

from typing import Annotated, ClassVar

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import AfterValidator, Field

from nextarget.model import Secret
from nextarget.settings.provider_settings import ProviderSettings, Text
from nextarget.settings.validators import Credential, Endpoint, Items, SecretText, one_client_id


def _signing_key(secret: Secret) -> Secret:
    try:
        key = load_pem_private_key(secret.encode(), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, EllipticCurvePrivateKey):  # another kind of key is a wrong value, not an internal error
        raise ValueError("is no private key on an elliptic curve. Download it from the provider's console again.")  # noqa: TRY004
    return secret


_ClientId = Annotated[str, AfterValidator(one_client_id), Credential]


class ParrotSettings(ProviderSettings):
    """The provider is on when all four credentials are set. None of them is a client secret."""

    client_id: _ClientId = Field(description="The client id.")
    key_id: Annotated[str, Credential] = Field(description="The id of the private key.")
    private_key: Annotated[SecretText, AfterValidator(_signing_key)] = Field(description="The private key, PEM.")
    redirect_uri: Endpoint = Field(description="`PUBLIC_URL` + `/auth/parrot/callback`.")
    client_ids: Annotated[tuple[_ClientId, ...], Items] = Field((), description="Client ids of the apps themselves.")
    issuer: Endpoint = Field("https://parrot.example", description="`iss` of id_tokens.")
    authorization_endpoint: Endpoint = Field("https://parrot.example/authorize", description="Where it asks.")
    token_endpoint: Endpoint = Field("https://parrot.example/token", description="Where it redeems codes.")
    jwks_uri: Endpoint = Field("https://parrot.example/keys", description="Where it publishes its keys.")

    shown_query: ClassVar[frozenset[str]] = frozenset({"plumage"})

    @classmethod
    def sends(cls, text: Text) -> frozenset[str]:
        return frozenset({"cage"})
