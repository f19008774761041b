"""The interface of a provider."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol
from urllib.parse import urlencode

from nextarget.errors import ProblemError
from nextarget.model import NO_WISHES, Identity, Millis, Provider, RevocableGrant, Wishes
from nextarget.providers.http.client import ProviderHttp
from nextarget.tokens.login import LoginSecrets

if TYPE_CHECKING:  # a server does not import them
    from nextarget.providers.probes.asking import Asker
    from nextarget.providers.probes.findings import Checks


class SubjectTokenType(StrEnum):
    """The types of token that an app may present (RFC 8693, 3)."""

    ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
    ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"


class CallbackMethod(StrEnum):
    """How a provider sends the person's browser back (OAuth 2.0 Multiple Response Types, 2.1; Form Post, 2)."""

    QUERY = "query"
    FORM_POST = "form_post"
    """A browser does not send a SameSite=Lax cookie with a POST from another site. The server therefore answers the
    POST with a redirect to the same callback by GET, and the browser sends the cookie with that."""


@dataclass(frozen=True, slots=True)
class NativeIdentity:
    """An identity from a token that an app presented.

    `nonce` is our nonce in that token. A token without a nonce can be presented again; then `issued_at` is the time
    when the provider made it, if known.
    """

    identity: Identity
    nonce: str | None = field(repr=False)
    issued_at: Millis | None = None


@dataclass(frozen=True, slots=True)
class RemovalRequest:
    """What a provider tells us when a person has removed the app there, or wants their data deleted.

    `issued_at` may be in whole seconds: then it is the beginning of that second.
    """

    subject: str = field(repr=False)
    issued_at: Millis


class EventEffect(StrEnum):
    """What an event of a provider does to the person's account here."""

    NONE = "none"
    """It is recorded."""
    END_SESSIONS = "end_sessions"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """What a provider tells us about an account there, verified.

    `id` is unique at the provider, which may send an event several times. `kind` is one of few words of ours, `detail`
    what the event says beside it, without anything about the person: the log shows both. `subject` is None if the event
    names no person. `issued_at` may be the beginning of a second.
    """

    id: str = field(repr=False)
    kind: str
    effect: EventEffect
    subject: str | None = field(repr=False)
    issued_at: Millis
    detail: str | None = None


class IdentityProvider(Protocol):
    """A company that tells us who a person is. It may also be one that `TellsRemovals`, `TellsEvents` or `Revokes`."""

    name: Provider
    callback_method: ClassVar[CallbackMethod] = CallbackMethod.QUERY
    error_words: ClassVar[frozenset[str]] = frozenset()
    """Words in the provider's errors that it documents. The log may show them."""

    issuers: tuple[str, ...]
    """The values that the provider may send as `iss` in a callback (RFC 9207)."""

    meanings: Mapping[str, type[ProblemError]]
    """Our error for error words in a callback that the provider has beyond RFC 6749."""

    http: ProviderHttp
    asks_person: bool
    """Whether the provider can be told to show its page even to a person who is signed in there."""

    def __init__(self, settings: Any, http: ProviderHttp) -> None:
        """`settings` is an instance of the provider's own class of settings. It exists only if the provider is on."""

    def authorization_url(self, secrets: LoginSecrets, *, ask_person: bool, wishes: Wishes = NO_WISHES) -> str:
        """The URL to which the browser goes for the sign-in. It contains `ask_person` and the app's `wishes` if the
        provider has parameters for them."""

    async def identify(self, code: str, secrets: LoginSecrets, now: Millis) -> Identity:
        """Exchange the code of the callback, and return who signed in.

        Raises ProviderRefused, ProviderUnavailable, ProviderFailed or IdentityRejected. Their notes contain no secrets.
        """

    async def identify_native(
        self, token: str, kind: SubjectTokenType, *, raw_nonce: str | None, now: Millis
    ) -> NativeIdentity:
        """Check a token that the app got from the provider's SDK, and return who signed in there.

        Raises InvalidRequest for a `kind` that is not accepted, IdentityRejected, ProviderUnavailable or
        ProviderFailed.
        """

    def probes(self, asker: "Asker", secrets: LoginSecrets, now: Millis) -> "Checks":
        """Checks of our client at this provider, for `check-config --live`, to be run together. `secrets` belong to no
        login. A provider without checks has none. The modules that make requests are imported here."""
        return ()


class TellsRemovals(IdentityProvider):
    """A provider that sends a signed request when a person has removed the app there, or wants their data deleted."""

    @abstractmethod
    def removal_request(self, text: str) -> RemovalRequest:
        """Check a signed request of this provider. Raises InvalidRequest."""


class TellsEvents(IdentityProvider):
    """A provider that tells us what happens to a person's account there."""

    @abstractmethod
    async def security_event(self, body: str) -> SecurityEvent:
        """Check the body of a request in which this provider tells an event.

        Raises EventRefused. Raises ProviderUnavailable if the provider's keys cannot be fetched.
        """


class Revokes(IdentityProvider):
    """A provider at which we can end what the person has agreed to there."""

    @abstractmethod
    async def identify_to_revoke(
        self, code: str, secrets: LoginSecrets, now: Millis
    ) -> tuple[Identity, RevocableGrant | None]:
        """Like `identify`, and return what revokes the grant too; None if the provider gave nothing for that."""

    @abstractmethod
    async def redeem_to_revoke(self, code: str, now: Millis) -> RevocableGrant:
        """Exchange an authorization code that an app got from the provider's SDK. Raises what `identify` raises."""

    @abstractmethod
    async def revoke(self, grant: RevocableGrant, now: Millis) -> None:
        """Revoke a grant. Raises ProviderUnavailable or ProviderFailed."""


def with_parameters(endpoint: str, parameters: Mapping[str, str]) -> str:
    """The URL of an endpoint with these parameters. The endpoint's own parameters are kept (RFC 6749, 3.1)."""
    joint = "?" if "?" not in endpoint else "" if endpoint.endswith(("?", "&")) else "&"
    return f"{endpoint}{joint}{urlencode(parameters)}"
