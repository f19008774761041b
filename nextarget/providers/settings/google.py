"""The settings of Google: our client in its console, and its endpoints."""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from nextarget.settings.provider_settings import ProviderSettings, Text
from nextarget.settings.validators import ClientSecret, Credential, Endpoint, Items


def _client_id(text: str) -> str:
    if "," in text:
        raise ValueError("holds a comma, and is one client id. Further ones of Google's belong into GOOGLE_CLIENT_IDS.")
    return text


_ClientId = Annotated[str, AfterValidator(_client_id), Credential]


class GoogleSettings(ProviderSettings):
    """Google is on when client id, client secret and redirect are set."""

    client_id: _ClientId = Field(description="OAuth client id of type *Web application*.")
    client_secret: ClientSecret = Field(description="Its client secret.")
    redirect_uri: Endpoint = Field(description="`PUBLIC_URL` + `/auth/google/callback`.")
    client_ids: Annotated[tuple[_ClientId, ...], Items] = Field(
        (), description="Client ids of the apps themselves, accepted in native sign-in beside `GOOGLE_CLIENT_ID`."
    )
    issuer: Endpoint = Field("https://accounts.google.com", description="`iss` of Google's id_tokens.")
    authorization_endpoint: Endpoint = Field(
        "https://accounts.google.com/o/oauth2/v2/auth", description="Where Google asks the person."
    )
    token_endpoint: Endpoint = Field("https://oauth2.googleapis.com/token", description="Where Google redeems codes.")
    jwks_uri: Endpoint = Field(
        "https://www.googleapis.com/oauth2/v3/certs", description="Where Google publishes its keys."
    )

    shown_query: ClassVar[frozenset[str]] = frozenset({"hd"})

    @classmethod
    def sends(cls, text: Text) -> frozenset[str]:
        return frozenset({"prompt", "login_hint"})
