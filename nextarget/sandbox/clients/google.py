"""Our client at the stand-in Google, and the client of the app in the same project."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from nextarget.model import Secret
from nextarget.sandbox.made_up import MadeUp, digits, rsa_key, rsa_private_key


def _client_id() -> str:
    return f"{digits(12)}-sandbox{secrets.token_hex(8)}.apps.googleusercontent.com"


_CLIENT_ID = re.compile(r"[0-9a-z.-]{20,120}")


@dataclass(frozen=True, slots=True)
class GoogleClient:
    """`client_id` is the client of the server, and `client_ids` are the clients of the apps.

    The id_token of an SDK has an app's client id as `azp`. It has it as `aud` too if the app did not ask for a token
    for its server.
    """

    made_up: ClassVar[Mapping[str, MadeUp]] = {
        "client_id": MadeUp(_CLIENT_ID, _client_id, first=True),
        "client_secret": MadeUp(
            re.compile(r"[\w-]{20,120}"), lambda: f"GOCSPX-{secrets.token_urlsafe(24)}", first=True
        ),
        "private_key": rsa_private_key(first=True),
        "app_client_id": MadeUp(_CLIENT_ID, _client_id),
    }
    unused: ClassVar[tuple[str, ...]] = ("risc_api_url",)

    issuer: str
    client_id: str
    client_ids: tuple[str, ...]
    client_secret: Secret
    redirect_uri: str
    private_key: RSAPrivateKey = field(repr=False)

    @classmethod
    def of(cls, public_url: str, kept: Mapping[str, str]) -> "GoogleClient":
        return cls(
            issuer=f"{public_url}/sandbox/google",
            client_id=kept["client_id"],
            client_ids=(kept["app_client_id"],),
            client_secret=Secret(kept["client_secret"]),
            redirect_uri=f"{public_url}/auth/google/callback",
            private_key=rsa_key(kept["private_key"]),
        )

    def settings(self) -> Mapping[str, str]:
        return {
            "client_id": self.client_id,
            "client_ids": ",".join(self.client_ids),
            "client_secret": self.client_secret.reveal(),
            "redirect_uri": self.redirect_uri,
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "risc_configuration_uri": f"{self.issuer}/.well-known/risc-configuration",
        }
