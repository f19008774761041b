"""Our app at the stand-in Facebook."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from nextarget.model import Secret
from nextarget.sandbox.made_up import MadeUp, digits, rsa_key, rsa_private_key

GRAPH_VERSION = "v26.0"


@dataclass(frozen=True, slots=True)
class FacebookClient:
    """Our app. The stand-in accepts any number as a configuration of Facebook Login for Business, so the setting
    `config_id` is not used here."""

    made_up: ClassVar[Mapping[str, MadeUp]] = {
        "client_id": MadeUp(re.compile(r"[0-9]{15,17}"), lambda: digits(16), first=True),
        "client_secret": MadeUp(re.compile(r"[0-9a-f]{32}"), lambda: secrets.token_hex(16), first=True),
        "private_key": rsa_private_key(),
    }
    unused: ClassVar[tuple[str, ...]] = ("config_id",)

    graph_url: str
    client_id: str
    client_secret: Secret
    redirect_uri: str
    private_key: RSAPrivateKey = field(repr=False)

    @classmethod
    def of(cls, public_url: str, kept: Mapping[str, str]) -> "FacebookClient":
        return cls(
            graph_url=f"{public_url}/sandbox/facebook",
            client_id=kept["client_id"],
            client_secret=Secret(kept["client_secret"]),
            redirect_uri=f"{public_url}/auth/facebook/callback",
            private_key=rsa_key(kept["private_key"]),
        )

    def settings(self) -> Mapping[str, str]:
        return {
            "client_id": self.client_id,
            "client_secret": self.client_secret.reveal(),
            "redirect_uri": self.redirect_uri,
            "graph_url": self.graph_url,
            "authorization_endpoint": f"{self.graph_url}/dialog/oauth",
            "graph_version": GRAPH_VERSION,
            "jwks_uri": f"{self.graph_url}/limited/jwks",
        }
