"""The settings of Google: our client in its console, and its endpoints."""

from typing import ClassVar

from nextarget.model import Secret
from nextarget.settings.declaring import Kind, declares_settings, setting
from nextarget.settings.kinds import CLIENT_SECRET, ENDPOINT, list_of
from nextarget.settings.provider_settings import ProviderSettings, Text
from nextarget.settings.validators import credential


def _client_id(text: str) -> str:
    if "," in text:
        raise ValueError("holds a comma, and is one client id. Further ones of Google's belong into GOOGLE_CLIENT_IDS.")
    return credential(text)


_CLIENT_ID: Kind[str] = Kind(_client_id)


@declares_settings
class GoogleSettings(ProviderSettings):
    """Google is on when client id, client secret and redirect are set."""

    client_id: str = setting(_CLIENT_ID, description="OAuth client id of type *Web application*.")
    client_secret: Secret = setting(CLIENT_SECRET, description="Its client secret.")
    redirect_uri: str = setting(ENDPOINT, description="`PUBLIC_URL` + `/auth/google/callback`.")
    client_ids: tuple[str, ...] = setting(
        list_of(_CLIENT_ID),
        default=(),
        description="Client ids of the apps themselves, accepted in native sign-in beside `GOOGLE_CLIENT_ID`.",
    )
    issuer: str = setting(ENDPOINT, default="https://accounts.google.com", description="`iss` of Google's id_tokens.")
    authorization_endpoint: str = setting(
        ENDPOINT, default="https://accounts.google.com/o/oauth2/v2/auth", description="Where Google asks the person."
    )
    token_endpoint: str = setting(
        ENDPOINT, default="https://oauth2.googleapis.com/token", description="Where Google redeems codes."
    )
    jwks_uri: str = setting(
        ENDPOINT, default="https://www.googleapis.com/oauth2/v3/certs", description="Where Google publishes its keys."
    )
    risc_configuration_uri: str = setting(
        ENDPOINT,
        default="https://accounts.google.com/.well-known/risc-configuration",
        description="Where Google says which keys sign its security events.",
    )
    risc_api_url: str = setting(
        ENDPOINT,
        default="https://risc.googleapis.com",
        description="Where `nextarget google-events` registers the receiver of security events.",
    )

    shown_query: ClassVar[frozenset[str]] = frozenset({"hd"})

    @classmethod
    def sends(cls, text: Text) -> frozenset[str]:
        return frozenset({"prompt", "login_hint"})
