"""The settings of Facebook: our app in its dashboard, and its endpoints."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

from nextarget.errors import SettingProblem
from nextarget.model import Secret
from nextarget.settings.declaring import declares_settings, setting
from nextarget.settings.kinds import CLIENT_ID, CLIENT_SECRET, ENDPOINT, TRUE, TRUTH, matching
from nextarget.settings.provider_settings import ProviderSettings, Text
from nextarget.settings.validators import parameters_in


@declares_settings
class FacebookSettings(ProviderSettings):
    """Facebook is on when app id, app secret and redirect are set. With `pkce`, Facebook binds a code to its login.
    `config_id` is a configuration of Facebook Login for Business; it cannot be used together with `pkce`."""

    client_id: str = setting(CLIENT_ID, description="The *App ID*.")
    client_secret: Secret = setting(CLIENT_SECRET, description="The *App secret*.")
    redirect_uri: str = setting(ENDPOINT, description="`PUBLIC_URL` + `/auth/facebook/callback`.")
    config_id: str | None = setting(
        matching(r"[0-9]{1,40}"),
        default=None,
        description="The *Configuration ID* of Facebook Login for Business, if it is used.",
    )
    pkce: bool = setting(
        TRUTH,
        default=False,
        description="Whether Facebook binds each code to its login, by `openid`, nonce and PKCE; recommended.",
    )
    graph_version: str = setting(
        matching(r"v[0-9]{1,3}\.[0-9]"), default="v26.0", description="Version of the Graph API."
    )
    graph_url: str = setting(ENDPOINT, default="https://graph.facebook.com", description="Where the Graph API is.")
    authorization_endpoint: str | None = setting(
        ENDPOINT,
        default=None,
        description="Where Facebook asks the person; the login dialog of `FACEBOOK_GRAPH_VERSION` unless set.",
    )
    jwks_uri: str = setting(
        ENDPOINT,
        default="https://limited.facebook.com/.well-known/oauth/openid/jwks/",
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
        if business and (text("pkce") or "").lower() in TRUE:
            problem = "needs the scope openid, for which Facebook Login for Business has no place."
            yield SettingProblem("FACEBOOK_PKCE", problem, "Leave it out, or FACEBOOK_CONFIG_ID.")
