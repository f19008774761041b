"""The packages in JavaScript that programs of the documents import."""

from tests.clients.conftest import node_packages

__all__ = ["node_packages"]
