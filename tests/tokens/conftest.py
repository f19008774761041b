"""Keys to sign with. The fixtures make them once, because making a key takes longer than all the tests that use it."""

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


@pytest.fixture(scope="session")
def rsa_key() -> RSAPrivateKey:
    """The provider's key."""
    return generate_private_key(65537, 2048)


@pytest.fixture(scope="session")
def strangers_key() -> RSAPrivateKey:
    """A key that the provider never published."""
    return generate_private_key(65537, 2048)


@pytest.fixture(scope="session")
def public_pem(rsa_key: RSAPrivateKey) -> bytes:
    return rsa_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
