"""The account page of a stand-in, where a person chooses an account, and the redirect back to the client.

A program can skip the page: it appends `&person=KEY` to the authorization URL, and optionally `&fault=NAME`, and is
redirected at once. `person=cancel` cancels the sign-in.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from aiohttp import web

from nextarget.model import Provider
from nextarget.registry import display_name
from nextarget.sandbox.parameters import RefusedError
from nextarget.sandbox.people import PEOPLE, Fault, Person, faults_of, people_of
from nextarget.sandbox.rendering import page

CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Choice:
    """The person who signs in, and the fault. The person is None if the sign-in was cancelled."""

    person: Person | None
    fault: Fault | None


def choice_in(
    params: Mapping[str, str], provider: Provider, *, faults: Collection[Fault] | None = None
) -> Choice | None:
    """The choice in the query, or None if it names no person yet.

    `faults` are the accepted faults; by default, the faults of the account page. Raises RefusedError if the person has
    no account at this provider, or the fault is not accepted.
    """
    fault = _fault(params, [script.fault for script in faults_of(provider)] if faults is None else faults)
    key = params.get("person")
    if key is None:
        return None
    if key == CANCEL:
        return Choice(None, fault)
    person = PEOPLE.get(key)
    if person is None or provider not in person.providers:
        raise RefusedError("unknown_person", f"person= names nobody here. There are: {keys_of(provider)}")
    return Choice(person, fault)


def keys_of(provider: Provider) -> str:
    """The values of `person=`, for a sentence to a developer."""
    return ", ".join((*(person.key for person in people_of(provider)), CANCEL))


def account_page(
    provider: Provider, request: web.Request, params: Mapping[str, str], *, with_id_token: bool = False
) -> web.Response:
    """A page to choose a person and a fault, or to cancel. Its form sends the same request again, with the choice."""
    return page(
        "accounts.html",
        stand_in=display_name(provider),
        action=request.path,
        fields=[(name, value) for name, value in params.items() if name not in {"person", "fault"}],
        people=sorted(
            people_of(provider), key=lambda person: not _is_hinted(person, provider, params.get("login_hint"))
        ),
        faults=faults_of(provider, with_id_token=with_id_token),
        chosen=params.get("fault", ""),
        cancel=CANCEL,
    )


def _is_hinted(person: Person, provider: Provider, hint: str | None) -> bool:
    """Whether the login hint means this person. It is an email, or the provider's own id of the person."""
    return hint is not None and hint in {person.email, person.subject(provider)}


def refusal_page(provider: Provider, refusal: RefusedError) -> web.Response:
    """A page with an error that must not be sent to a redirect URI (RFC 6749, 4.1.2.1)."""
    return page(
        "refused.html",
        status=400,
        stand_in=display_name(provider),
        error=refusal.error,
        sentence=refusal.sentence,
    )


def redirect(uri: str, params: Mapping[str, str | None], *, fragment: str = "") -> web.Response:
    """A redirect (302) to the client's redirect URI, with the parameters that are not None (RFC 6749, 4.1.2)."""
    query = urlencode({name: value for name, value in params.items() if value is not None})
    location = f"{uri}{'&' if '?' in uri else '?'}{query}{fragment}"
    return web.Response(
        status=302,
        headers={"Location": location, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"},
    )


def _fault(params: Mapping[str, str], known: Collection[Fault]) -> Fault | None:
    name = params.get("fault", "")
    if not name:
        return None
    if name not in known:
        raise RefusedError("unknown_fault", f"fault= names nothing here. There are: {', '.join(known)}")
    return Fault(name)
