"""The settings of Facebook: our app in its dashboard, and its endpoints."""

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from nextarget.errors import SettingProblem
from nextarget.settings.provider_settings import ProviderSettings, Text
from nextarget.settings.validators import ClientSecret, Credential, Endpoint, one_client_id, parameters_in

_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})


class FacebookSettings(ProviderSettings):
    """Facebook is on when app id, app secret and redirect are set. With `pkce`, Facebook binds a code to its login.
    `config_id` is a configuration of Facebook Login for Business; it cannot be used together with `pkce`."""

    client_id: Annotated[str, AfterValidator(one_client_id), Credential] = Field(description="The *App ID*.")
    client_secret: ClientSecret = Field(description="The *App secret*.")
    redirect_uri: Endpoint = Field(description="`PUBLIC_URL` + `/auth/facebook/callback`.")
    config_id: str | None = Field(
        None,
        pattern=r"^[0-9]{1,40}\Z",
        description="The *Configuration ID* of Facebook Login for Business, if it is used.",
    )
    pkce: bool = Field(
        False, description="Whether Facebook binds each code to its login, by `openid`, nonce and PKCE; recommended."
    )
    graph_version: str = Field("v26.0", pattern=r"^v[0-9]{1,3}\.[0-9]\Z", description="Version of the Graph API.")
    graph_url: Endpoint = Field("https://graph.facebook.com", description="Where the Graph API is.")
    authorization_endpoint: Endpoint | None = Field(
        None,
        description="Where Facebook asks the person; the login dialog of `FACEBOOK_GRAPH_VERSION` unless set.",
    )
    jwks_uri: Endpoint = Field(
        "https://limited.facebook.com/.well-known/oauth/openid/jwks/",
        description="Where Facebook publishes the keys of Limited Login.",
    )

    remedies: ClassVar[Mapping[str, str]] = {
        "config_id": "Copy the Configuration ID, a number, from the app's dashboard, or leave it out.",
        "graph_version": "Write it as v26.0.",
    }
    shown_query: ClassVar[frozenset[str]] = frozenset({"config_id"})

    @property
    def login_dialog(self) -> str:
        """The URL to which the person's browser is sent."""
        return self.authorization_endpoint or f"https://www.facebook.com/{self.graph_version}/dialog/oauth"

    @classmethod
    def sends(cls, text: Text) -> frozenset[str]:
        config_id = {"config_id"} if text("config_id") else set()
        return frozenset({"auth_type", "override_default_response_type"} | config_id)

    @classmethod
    def contradictions(cls, text: Text) -> Iterator[SettingProblem]:
        """`pkce` needs a scope, but a request with a configuration has no scope."""
        business = text("config_id") or "config_id" in parameters_in(text("authorization_endpoint"))
        if business and (text("pkce") or "").lower() in _TRUE:
            problem = "needs the scope openid, for which Facebook Login for Business has no place."
            yield SettingProblem("FACEBOOK_PKCE", problem, "Leave it out, or FACEBOOK_CONFIG_ID.")
