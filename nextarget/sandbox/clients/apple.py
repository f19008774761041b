"""Our Services ID at the stand-in Apple, its key, and the app of the same team."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from nextarget.model import Secret
from nextarget.sandbox.made_up import MadeUp, rsa_key, rsa_private_key


def _key_of_ours() -> str:
    key = generate_private_key(SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii").strip()


@dataclass(frozen=True, slots=True)
class AppleClient:
    """`private_key` signs our client secrets, `id_token_key` the stand-in's id_tokens."""

    made_up: ClassVar[Mapping[str, MadeUp]] = {
        "client_id": MadeUp(
            re.compile(r"[A-Za-z0-9.-]{5,120}"), lambda: f"org.example.sandbox{secrets.token_hex(4)}.signin"
        ),
        "private_key": MadeUp(re.compile(r"-----BEGIN PRIVATE KEY-----\n.{100,400}", re.DOTALL), _key_of_ours),
        "id_token_key": rsa_private_key(),
    }
    unused: ClassVar[tuple[str, ...]] = ()

    issuer: str
    client_id: str
    private_key: Secret
    redirect_uri: str
    id_token_key: RSAPrivateKey = field(repr=False)
    team_id: str = "SANDBOX123"
    key_id: str = "SANDBOXKEY"
    bundle_id: str = "org.example.sandbox"

    @classmethod
    def of(cls, public_url: str, kept: Mapping[str, str]) -> "AppleClient":
        return cls(
            issuer=f"{public_url}/sandbox/apple",
            client_id=kept["client_id"],
            private_key=Secret(kept["private_key"]),
            redirect_uri=f"{public_url}/auth/apple/callback",
            id_token_key=rsa_key(kept["id_token_key"]),
        )

    def settings(self) -> Mapping[str, str]:
        return {
            "client_id": self.client_id,
            "team_id": self.team_id,
            "key_id": self.key_id,
            "private_key": self.private_key.reveal(),
            "redirect_uri": self.redirect_uri,
            "client_ids": self.bundle_id,
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/auth/authorize",
            "token_endpoint": f"{self.issuer}/auth/token",
            "jwks_uri": f"{self.issuer}/auth/keys",
            "revocation_endpoint": f"{self.issuer}/auth/revoke",
        }
