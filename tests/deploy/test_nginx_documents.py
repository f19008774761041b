"""The answers written in the shipped nginx configuration, without starting nginx."""

import json
import re

import pytest

from nextarget.errors import HeaderFieldsTooLarge, InvalidRequest, MethodNotAllowed, NotFound, PayloadTooLarge
from nextarget.web.problems import problem_document
from tests.deploy.documents import DEPLOY

CONFIGURATION = (DEPLOY / "nginx/nextarget.conf").read_text("utf-8")
WRITTEN = {int(status): json.loads(text) for status, text in re.findall(r"return (\d+) '(\{.*\})';", CONFIGURATION)}
ERRORS = {
    error.status: error
    for error in (InvalidRequest(), NotFound(), MethodNotAllowed(), PayloadTooLarge(), HeaderFieldsTooLarge())
}


def test_nginx_has_a_document_for_every_error_that_it_answers() -> None:
    """503 is nginx's own: the server, which it cannot reach, has no such document."""
    assert WRITTEN.keys() == ERRORS.keys() | {503}


@pytest.mark.parametrize("status", ERRORS)
def test_a_document_in_the_nginx_configuration_is_the_one_of_the_server(status: int) -> None:
    """A client gets the same document, whether nginx or the server refuses the request."""
    assert WRITTEN[status] == problem_document(ERRORS[status], "$nextarget_request_id")
