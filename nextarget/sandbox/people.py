"""The cast of the sandbox: the people who can sign in, and what can be made to go wrong.

Everything here is fixed, so that a person is the same user after every restart.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from nextarget.model import MAX_EMAIL_LENGTH, Provider

ADAS_EMAIL = "ada@lovelace.example"
_LONG_DOMAIN = ".".join(["a" * 62, "b" * 62, "c" * 55, "example"])
LONGEST_EMAIL = f"{'m' * (MAX_EMAIL_LENGTH - 1 - len(_LONG_DOMAIN))}@{_LONG_DOMAIN}"
"""As long as an address can be: 64 characters before the at sign, 254 in all (RFC 5321, 4.5.3.1)."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an account at one provider or both.

    Google's subject is up to 255 characters, in practice 21 digits; Facebook's is 15 to 17 digits, different for
    each app. Facebook never says whether an email is verified: `email_verified` is what Google says.
    """

    key: str
    name: str
    email: str | None
    email_verified: bool
    note: str
    google_subject: str | None = field(default=None, repr=False)
    facebook_subject: str | None = field(default=None, repr=False)

    def subject(self, provider: Provider) -> str | None:
        """The provider's own id for this person, None without an account there."""
        return self.google_subject if provider is Provider.GOOGLE else self.facebook_subject

    @property
    def providers(self) -> tuple[Provider, ...]:
        return tuple(provider for provider in Provider if self.subject(provider))


CAST = (
    Person(
        "ada",
        "Ada Lovelace",
        ADAS_EMAIL,
        True,
        "Nothing unusual. Has an account at both providers.",
        "108204268033311374501",
        "10224601733318501",
    ),
    Person(
        "grace",
        "Grace Hopper",
        "grace@hopper.example",
        False,
        "Google has not verified the email.",
        google_subject="110559321478230416602",
    ),
    Person(
        "katherine",
        "Katherine Johnson",
        None,
        False,
        "Registered with a phone number: there is no email.",
        facebook_subject="10158844207715503",
    ),
    Person(
        "alan",
        "Alan Turing",
        None,
        False,
        "Google sends no email, although it was asked to.",
        google_subject="103317720945518836704",
    ),
    Person(
        "augusta",
        "Augusta Byron",
        ADAS_EMAIL,
        False,
        "Another person whose email equals Ada's.",
        facebook_subject="3917624885011205",
    ),
    Person(
        "adele",
        "Adele Goldberg",
        ADAS_EMAIL,
        True,
        "Was given Ada's address after Ada gave it up: same email, another account.",
        google_subject="115620099172344805806",
    ),
    Person(
        "zoe",
        "Zoë Müller",
        "zoë@müller.example",
        True,
        "The email has letters beyond ASCII.",
        "101774300825561193307",
        "2481063305172808",
    ),
    Person(
        "bobby",
        "Bobby <b>Tables</b>",
        '"<b>bobby</b>\';--"@tables.example',
        True,
        "A legal email (RFC 5321, 4.1.2) that hurts whoever forgets to escape it.",
        "117003518864209957708",
        "1640287753319909",
    ),
    Person(
        "max",
        "Max Mustermann",
        LONGEST_EMAIL,
        True,
        f"The email has {MAX_EMAIL_LENGTH} characters, as many as there can be.",
        "105881246730017742209",
        "4120998316620410",
    ),
)

PEOPLE: Mapping[str, Person] = MappingProxyType({person.key: person for person in CAST})
"""Everybody, by the key that `person=` takes."""


def people_of(provider: Provider) -> tuple[Person, ...]:
    """Those who have an account at the provider, the ordinary one first."""
    return tuple(person for person in CAST if provider in person.providers)


class Fault(StrEnum):
    """What `fault=` takes: one thing that goes wrong with one sign-in."""

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
    """A fault, told to a person, and the providers that can play it when a browser signs in."""

    fault: Fault
    sentence: str
    providers: tuple[Provider, ...]


_BOTH = (Provider.GOOGLE, Provider.FACEBOOK)
_GOOGLE = (Provider.GOOGLE,)
_FACEBOOK = (Provider.FACEBOOK,)

FAULTS = (
    FaultScript(Fault.SLOW, "The token endpoint answers only after the caller should have given up.", _BOTH),
    FaultScript(Fault.ERROR_500, "The token endpoint answers 500.", _BOTH),
    FaultScript(Fault.BUSY, "The token endpoint answers 503 and asks to come back in two minutes.", _BOTH),
    FaultScript(Fault.HTML, "The token endpoint answers 200 with a web page instead of JSON.", _BOTH),
    FaultScript(Fault.DISCONNECT, "The token endpoint hangs up without an answer.", _BOTH),
    FaultScript(Fault.CODE_USED, "The authorization code has already been used.", _BOTH),
    FaultScript(Fault.BAD_SIGNATURE, "The id_token is signed with a stranger's key.", _GOOGLE),
    FaultScript(Fault.ALG_NONE, "The id_token is not signed at all (alg none).", _GOOGLE),
    FaultScript(Fault.HS256_PUBLIC_KEY, "The id_token is an HMAC, keyed with the public key.", _GOOGLE),
    FaultScript(Fault.CRITICAL_HEADER, "The id_token demands an extension that nobody knows (crit).", _GOOGLE),
    FaultScript(Fault.WRONG_AUDIENCE, "The id_token is meant for another client.", _GOOGLE),
    FaultScript(Fault.WRONG_ISSUER, "The id_token names another issuer.", _GOOGLE),
    FaultScript(Fault.EXPIRED, "The id_token expired an hour ago.", _GOOGLE),
    FaultScript(Fault.ISSUED_IN_FUTURE, "The id_token will be issued in an hour.", _GOOGLE),
    FaultScript(Fault.CLOCK_SKEW, "The provider's clock is 5 seconds ahead; the sign-in works.", _GOOGLE),
    FaultScript(Fault.WRONG_NONCE, "The id_token carries somebody else's nonce.", _GOOGLE),
    FaultScript(Fault.MISSING_NONCE, "The id_token carries no nonce.", _GOOGLE),
    FaultScript(Fault.MISSING_SUB, "The id_token does not say who signed in.", _GOOGLE),
    FaultScript(Fault.OTHER_AZP, "The id_token was issued to another client (azp).", _GOOGLE),
    FaultScript(Fault.EVENTS_CLAIM, "The id_token is really a security event (events claim).", _GOOGLE),
    FaultScript(Fault.GARBAGE_TOKEN, "The id_token is not a token.", _GOOGLE),
    FaultScript(Fault.HUGE_TOKEN, "The id_token is larger than 64 KiB.", _GOOGLE),
    FaultScript(Fault.ROTATED_KEYS, "The id_token is signed with a key published just now; it works.", _GOOGLE),
    FaultScript(Fault.UNKNOWN_KID, "The id_token names a key that is not published.", _GOOGLE),
    FaultScript(Fault.WRONG_ISS_PARAMETER, "The redirect names another issuer (iss).", _GOOGLE),
    FaultScript(Fault.NO_ISS_PARAMETER, "The redirect names no issuer (iss); the sign-in works.", _GOOGLE),
    FaultScript(Fault.MISSING_ID_TOKEN, "The token answer holds no id_token.", _GOOGLE),
    FaultScript(Fault.MISSING_TOKEN, "The token answer holds no access_token.", _FACEBOOK),
    FaultScript(Fault.MISSING_ID, "The profile holds no id.", _FACEBOOK),
    FaultScript(Fault.ODD_TYPES, "Ids are numbers, times are text, the email is a list; the sign-in works.", _FACEBOOK),
    FaultScript(Fault.GRAPH_ERROR, "The profile is refused, and the error quotes the email.", _FACEBOOK),
    FaultScript(Fault.RATE_LIMITED, "The profile is refused: too many calls by this app.", _FACEBOOK),
    FaultScript(Fault.GRAPH_UNKNOWN, "The profile is refused: something unknown went wrong.", _FACEBOOK),
    FaultScript(Fault.GRAPH_DOWN, "The profile is refused: the Graph API is down for two minutes.", _FACEBOOK),
    FaultScript(Fault.BLOCKED, "The profile is refused: blocked for a while.", _FACEBOOK),
    FaultScript(Fault.SESSION_ENDED, "The profile is refused: the token is good no longer.", _FACEBOOK),
    FaultScript(Fault.DIALOG_CLOSED, "The dialog is closed, which Facebook tells in words of its own.", _FACEBOOK),
    FaultScript(Fault.FOREIGN_APP, "debug_token refuses the token: it is another app's.", _FACEBOOK),
    FaultScript(Fault.OTHER_APP, "debug_token says that the token belongs to another app.", _FACEBOOK),
    FaultScript(Fault.OTHER_USER, "debug_token says that the token belongs to another person.", _FACEBOOK),
    FaultScript(Fault.INVALID_TOKEN, "debug_token says that the token is not valid any more.", _FACEBOOK),
)
"""Every fault, with what it does in one sentence."""


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
"""What can be wrong with an id_token that an SDK hands to an app, of either provider."""

ACCESS_TOKEN_FAULTS = (
    Fault.EXPIRED,
    Fault.INVALID_TOKEN,
    Fault.FOREIGN_APP,
    Fault.OTHER_APP,
    Fault.OTHER_USER,
    Fault.MISSING_ID,
    Fault.ODD_TYPES,
    Fault.GRAPH_ERROR,
    Fault.RATE_LIMITED,
    Fault.GRAPH_UNKNOWN,
    Fault.GRAPH_DOWN,
    Fault.BLOCKED,
    Fault.SESSION_ENDED,
)
"""What can be wrong with an access token that Facebook's SDK hands to an app. Of these, `expired` to `other_user` show
in `debug_token` alone: `/me` answers, so that a server which forgets to ask is found out."""


def faults_of(provider: Provider, *, with_id_token: bool = False) -> tuple[FaultScript, ...]:
    """The faults that the provider's stand-in can play when a browser signs in.

    Google always gives an id_token. Facebook does when it is asked for one: `with_id_token`.
    """
    beside = (*ID_TOKEN_FAULTS, Fault.MISSING_ID_TOKEN) if with_id_token else ()
    return tuple(script for script in FAULTS if provider in script.providers or script.fault in beside)
