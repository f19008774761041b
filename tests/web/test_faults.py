"""Every fault of the sandbox through every flow, for every provider of the registry."""

import pytest

from nextarget.model import Provider
from nextarget.sandbox.people import Fault
from tests.faults import FAULTS_BY_PROVIDER, OUTCOMES, SDKS, check_in_every_flow, check_sdk
from tests.running import Server


def test_every_fault_has_an_expected_outcome() -> None:
    """A fault that is added to the sandbox must be added to the table too."""
    assert OUTCOMES.keys() == set(Fault)


@pytest.mark.parametrize(("provider", "fault"), FAULTS_BY_PROVIDER)
async def test_every_fault_ends_as_stated_in_every_flow_of_a_browser(
    impatient: Server, provider: Provider, fault: Fault, subtests: pytest.Subtests
) -> None:
    """A program gets the fixed problem document, a person a page, an app an OAuth error. Nothing of the provider's
    texts is in it, nobody is signed in, and the next sign-in works."""
    await check_in_every_flow(impatient, provider, fault, subtests)


@pytest.mark.parametrize(("provider", "query"), SDKS)
async def test_every_fault_of_an_sdk_ends_as_stated(
    server: Server, provider: Provider, query: str, subtests: pytest.Subtests
) -> None:
    """An app that presents a faulty token gets an error of RFC 8693, and the next token is accepted."""
    await check_sdk(server, provider, query, subtests)
