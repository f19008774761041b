"""The JavaScript packages that the documents' programs import."""

from tests.clients.conftest import node_packages

__all__ = ["node_packages"]
