"""The people who can sign in at the stand-ins, and the faults that the stand-ins can produce.

People and their ids never change, so that a person is the same user after a restart.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from nextarget.model import MAX_EMAIL_LENGTH, Provider
from nextarget.registry import PROVIDERS

ADAS_EMAIL = "ada@lovelace.example"
_LONG_DOMAIN = ".".join(["a" * 62, "b" * 62, "c" * 55, "example"])
LONGEST_EMAIL = f"{'m' * (MAX_EMAIL_LENGTH - 1 - len(_LONG_DOMAIN))}@{_LONG_DOMAIN}"
"""The longest possible address: 64 characters before the at sign, 254 characters in total (RFC 5321, 4.5.3.1)."""


@dataclass(frozen=True, slots=True)
class Person:
    """A person with an account at one or more providers; the stand-in of a provider lists its people.

    `email_verified` is the value that a provider sends, if it sends one.
    """

    key: str
    name: str
    email: str | None
    email_verified: bool
    note: str

    def subject(self, provider: Provider) -> str | None:
        """The provider's own id for this person; None if the person has no account there."""
        subjects: Mapping[str, str] = PROVIDERS[provider].stand_in().people
        return subjects.get(self.key)

    @property
    def providers(self) -> tuple[Provider, ...]:
        return tuple(provider for provider in PROVIDERS if self.subject(provider))


CAST = (
    Person(
        "ada",
        "Ada Lovelace",
        ADAS_EMAIL,
        True,
        "Nothing unusual.",
    ),
    Person(
        "grace",
        "Grace Hopper",
        "grace@hopper.example",
        False,
        "The provider has not verified the email.",
    ),
    Person(
        "katherine",
        "Katherine Johnson",
        None,
        False,
        "Registered with a phone number: there is no email.",
    ),
    Person(
        "alan",
        "Alan Turing",
        None,
        False,
        "The provider sends no email, although it was asked to.",
    ),
    Person(
        "augusta",
        "Augusta Byron",
        ADAS_EMAIL,
        False,
        "Another person whose email equals Ada's.",
    ),
    Person(
        "adele",
        "Adele Goldberg",
        ADAS_EMAIL,
        True,
        "Was given Ada's address after Ada gave it up: same email, another account.",
    ),
    Person(
        "zoe",
        "Zoë Müller",
        "zoë@müller.example",
        True,
        "The email has letters beyond ASCII.",
    ),
    Person(
        "bobby",
        "Bobby <b>Tables</b>",
        '"<b>bobby</b>\';--"@tables.example',
        True,
        "A legal email (RFC 5321, 4.1.2) that breaks a page which does not escape it.",
    ),
    Person(
        "max",
        "Max Mustermann",
        LONGEST_EMAIL,
        True,
        f"The email has {MAX_EMAIL_LENGTH} characters, as many as there can be.",
    ),
    Person(
        "hedy",
        "Hedy Lamarr",
        "q7x2k9m4pd@privaterelay.appleid.com",
        True,
        "Hides the email: this is an address of the provider's that forwards to it.",
    ),
    Person(
        "mary",
        "Mary Somerville",
        "mary@somerville.example",
        True,
        "The provider sends the email at the first sign-in only.",
    ),
)

FIRST_TIME_ONLY = frozenset({"mary"})
"""The people whose email a stand-in sends at their first sign-in alone. It forgets at a restart who signed in."""

PEOPLE: Mapping[str, Person] = MappingProxyType({person.key: person for person in CAST})
"""All people, by the key for the parameter `person=`."""


def people_of(provider: Provider) -> tuple[Person, ...]:
    """The people with an account at the provider. The first one has nothing unusual."""
    return tuple(person for person in CAST if provider in person.providers)


class Fault(StrEnum):
    """The values of the parameter `fault=`. A fault is for one sign-in."""

    SLOW = "slow"
    ERROR_500 = "error_500"
    BUSY = "busy"
    HTML = "html"
    DISCONNECT = "disconnect"
    CODE_USED = "code_used"
    BAD_SIGNATURE = "bad_signature"
    ALG_NONE = "alg_none"
    HS256_PUBLIC_KEY = "hs256_public_key"
    CRITICAL_HEADER = "critical_header"
    WRONG_AUDIENCE = "wrong_audience"
    WRONG_ISSUER = "wrong_issuer"
    EXPIRED = "expired"
    ISSUED_IN_FUTURE = "issued_in_future"
    CLOCK_SKEW = "clock_skew"
    WRONG_NONCE = "wrong_nonce"
    MISSING_NONCE = "missing_nonce"
    MISSING_SUB = "missing_sub"
    OTHER_AZP = "other_azp"
    EVENTS_CLAIM = "events_claim"
    GARBAGE_TOKEN = "garbage_token"
    HUGE_TOKEN = "huge_token"
    ROTATED_KEYS = "rotated_keys"
    UNKNOWN_KID = "unknown_kid"
    WRONG_ISS_PARAMETER = "wrong_iss_parameter"
    NO_ISS_PARAMETER = "no_iss_parameter"
    MISSING_ID_TOKEN = "missing_id_token"
    MISSING_TOKEN = "missing_token"
    MISSING_ID = "missing_id"
    ODD_TYPES = "odd_types"
    GRAPH_ERROR = "graph_error"
    RATE_LIMITED = "rate_limited"
    GRAPH_UNKNOWN = "graph_unknown"
    GRAPH_DOWN = "graph_down"
    BLOCKED = "blocked"
    SESSION_ENDED = "session_ended"
    DIALOG_CLOSED = "dialog_closed"
    FOREIGN_APP = "foreign_app"
    OTHER_APP = "other_app"
    OTHER_USER = "other_user"
    INVALID_TOKEN = "invalid_token"


@dataclass(frozen=True, slots=True)
class FaultScript:
    """A fault, and its description for people."""

    fault: Fault
    sentence: str


FAULTS = (
    FaultScript(Fault.SLOW, "The token endpoint answers only after the caller should have given up."),
    FaultScript(Fault.ERROR_500, "The token endpoint answers 500."),
    FaultScript(Fault.BUSY, "The token endpoint answers 503 and asks to come back in two minutes."),
    FaultScript(Fault.HTML, "The token endpoint answers 200 with a web page instead of JSON."),
    FaultScript(Fault.DISCONNECT, "The token endpoint hangs up without an answer."),
    FaultScript(Fault.CODE_USED, "The authorization code has already been used."),
    FaultScript(Fault.BAD_SIGNATURE, "The id_token is signed with a stranger's key."),
    FaultScript(Fault.ALG_NONE, "The id_token is not signed at all (alg none)."),
    FaultScript(Fault.HS256_PUBLIC_KEY, "The id_token is an HMAC, keyed with the public key."),
    FaultScript(Fault.CRITICAL_HEADER, "The id_token demands an extension that nobody knows (crit)."),
    FaultScript(Fault.WRONG_AUDIENCE, "The id_token is meant for another client."),
    FaultScript(Fault.WRONG_ISSUER, "The id_token names another issuer."),
    FaultScript(Fault.EXPIRED, "The id_token expired an hour ago."),
    FaultScript(Fault.ISSUED_IN_FUTURE, "The id_token will be issued in an hour."),
    FaultScript(Fault.CLOCK_SKEW, "The provider's clock is 5 seconds ahead; the sign-in works."),
    FaultScript(Fault.WRONG_NONCE, "The id_token carries somebody else's nonce."),
    FaultScript(Fault.MISSING_NONCE, "The id_token carries no nonce."),
    FaultScript(Fault.MISSING_SUB, "The id_token does not say who signed in."),
    FaultScript(Fault.OTHER_AZP, "The id_token was issued to another client (azp)."),
    FaultScript(Fault.EVENTS_CLAIM, "The id_token is really a security event (events claim)."),
    FaultScript(Fault.GARBAGE_TOKEN, "The id_token is not a token."),
    FaultScript(Fault.HUGE_TOKEN, "The id_token is larger than 64 KiB."),
    FaultScript(Fault.ROTATED_KEYS, "The id_token is signed with a key published just now; it works."),
    FaultScript(Fault.UNKNOWN_KID, "The id_token names a key that is not published."),
    FaultScript(Fault.WRONG_ISS_PARAMETER, "The redirect names another issuer (iss)."),
    FaultScript(Fault.NO_ISS_PARAMETER, "The redirect names no issuer (iss); the sign-in works."),
    FaultScript(Fault.MISSING_ID_TOKEN, "The token answer holds no id_token."),
    FaultScript(Fault.MISSING_TOKEN, "The token answer holds no access_token."),
    FaultScript(Fault.MISSING_ID, "The profile holds no id."),
    FaultScript(Fault.ODD_TYPES, "Ids are numbers, times are text, the email is a list; the sign-in works."),
    FaultScript(Fault.GRAPH_ERROR, "The profile is refused, and the error quotes the email."),
    FaultScript(Fault.RATE_LIMITED, "The profile is refused: too many calls by this app."),
    FaultScript(Fault.GRAPH_UNKNOWN, "The profile is refused: something unknown went wrong."),
    FaultScript(Fault.GRAPH_DOWN, "The profile is refused: the Graph API is down for two minutes."),
    FaultScript(Fault.BLOCKED, "The profile is refused: blocked for a while."),
    FaultScript(Fault.SESSION_ENDED, "The profile is refused: the token is good no longer."),
    FaultScript(Fault.DIALOG_CLOSED, "The dialog is closed, which the provider tells in words of its own."),
    FaultScript(Fault.FOREIGN_APP, "debug_token refuses the token: it is another app's."),
    FaultScript(Fault.OTHER_APP, "debug_token says that the token belongs to another app."),
    FaultScript(Fault.OTHER_USER, "debug_token says that the token belongs to another person."),
    FaultScript(Fault.INVALID_TOKEN, "debug_token says that the token is not valid any more."),
)
"""All faults with their descriptions."""


TOKEN_ENDPOINT_FAULTS = (
    Fault.SLOW,
    Fault.ERROR_500,
    Fault.BUSY,
    Fault.HTML,
    Fault.DISCONNECT,
    Fault.CODE_USED,
)
"""Faults of the token endpoint when a code is redeemed. Every stand-in has them."""

ID_TOKEN_FAULTS = (
    Fault.BAD_SIGNATURE,
    Fault.ALG_NONE,
    Fault.HS256_PUBLIC_KEY,
    Fault.CRITICAL_HEADER,
    Fault.WRONG_AUDIENCE,
    Fault.WRONG_ISSUER,
    Fault.EXPIRED,
    Fault.ISSUED_IN_FUTURE,
    Fault.CLOCK_SKEW,
    Fault.WRONG_NONCE,
    Fault.MISSING_NONCE,
    Fault.MISSING_SUB,
    Fault.OTHER_AZP,
    Fault.EVENTS_CLAIM,
    Fault.GARBAGE_TOKEN,
    Fault.HUGE_TOKEN,
    Fault.ROTATED_KEYS,
    Fault.UNKNOWN_KID,
)
"""Faults of an id_token, which are the same for all providers. An SDK can give such an id_token to an app."""


def faults_of(provider: Provider, *, with_id_token: bool = False) -> tuple[FaultScript, ...]:
    """The faults that the provider's stand-in can produce for a sign-in in a browser. `with_id_token` adds the faults
    of id_tokens, for a stand-in that issues an id_token only on request."""
    own: tuple[Fault, ...] = PROVIDERS[provider].stand_in().faults
    beside = (*ID_TOKEN_FAULTS, Fault.MISSING_ID_TOKEN) if with_id_token else ()
    return tuple(script for script in FAULTS if script.fault in own or script.fault in beside)
