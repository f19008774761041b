"""What an error of a sign-in means and what to do about it, in an operator's words. The sentence of an error is for the
person who signs in, and names no setting."""

from dataclasses import dataclass

from nextarget.errors import problem_types


@dataclass(frozen=True, slots=True)
class Advice:
    """The cause of an error, and what an operator can do."""

    cause: str
    remedy: str


_LOG = "The line of this request in the log has the exact `reason`."
_LIVE = "Run `nextarget check-config --live`."

_OF_CODE = {
    "access_denied": Advice("The person cancelled at the provider, or refused a permission.", "Nothing is wrong."),
    "identity_rejected": Advice(
        "The provider's statement about the person did not pass the checks.",
        f"{_LIVE} A wrong clock is a common cause. In native sign-in, the app's token may be of another client id "
        f"(GOOGLE_CLIENT_IDS), or its nonce may not be ours. {_LOG}",
    ),
    "invalid_request": Advice("The request at the callback was malformed.", f"{_LOG} The person can start again."),
    "invalid_state": Advice(
        "The person came back without the cookie of this sign-in, or with a state that is not ours.",
        "One person: another browser, a private window, or an old page; the person can start again. Many people: "
        "PUBLIC_URL is not the host where sign-ins begin, the proxy takes cookies away, or servers have different "
        f"JWT_SECRET_KEYs. {_LOG}",
    ),
    "login_expired": Advice(
        "The person took longer than ten minutes at the provider.", "The person can start the sign-in again."
    ),
    "provider_failed": Advice(
        "The provider's answer could not be used. Mostly it does not accept our credentials or the redirect.",
        f"{_LIVE} {_LOG}",
    ),
    "provider_refused": Advice(
        "The provider did not accept its own code: it was used already or has expired.",
        f"The person can start again. If it happens to everybody: {_LIVE[0].lower()}{_LIVE[1:]} {_LOG}",
    ),
    "provider_unavailable": Advice(
        "The provider did not answer in time, or said that it is unavailable.",
        f"{_LIVE} If the provider cannot be reached from this machine, look at DNS, the firewall and HTTPS_PROXY.",
    ),
    "sign_in_ended": Advice(
        "All sessions of the user were ended while this sign-in was in progress.",
        "The person can start again. `nextarget show-user USER` shows who or what ended the sessions.",
    ),
    "user_deactivated": Advice(
        "The user is deactivated, and may not sign in.", "`nextarget activate-user USER` lets the user in again."
    ),
    "internal_error": Advice(
        "A fault of this program.", "The log has the traceback with the request id. Please report it."
    ),
}
_OUR_SENTENCES = {
    kind.code: Advice(f"{kind.title}.", kind.sentence) for kind in problem_types() if hasattr(kind, "code")
}


def advice_of(detail: str | None) -> Advice:
    """The advice for the detail of a failed sign-in: the error's code, a colon, and its reason, which belongs to the
    cause, or else its title."""
    code, _, rest = (detail or "").partition(":")
    reason = rest.strip(" ")
    found = _OF_CODE.get(code) or _OUR_SENTENCES.get(code)
    if found is None:
        return Advice(f"{reason or 'The record does not say why'}.", _LOG)
    if not reason or f"{reason}." == _OUR_SENTENCES[code].cause:
        return found
    return Advice(f"{found.cause.removesuffix('.')}: {reason}.", found.remedy.replace(_LOG, "").strip(" "))


UNREDEEMED = Advice(
    "The person was let in and sent back to the app with a code, and the app has not redeemed the code.",
    "Look at the app: its redirect did not open it, or its request to /auth/token was refused. The log has a line "
    "`problem` with this login_id if it was refused.",
)
REUSED = Advice(
    "The code was redeemed twice. The session of the first time has ended, because the code may have been stolen.",
    "Usually the app repeats its request to /auth/token, or opens the same link twice. Let it send a code once.",
)
VISITED = Advice(
    "The person signed in on the account page. Nothing goes back to an app from there.",
    "Nothing is wrong on this side.",
)
WORKED = Advice("The sign-in succeeded.", "Nothing is wrong on this side.")
ENDED = Advice(
    "The sign-in succeeded, and its session has ended since.",
    "The events after it say why: signed out, ended by an operator, replaced, or a refresh token used twice.",
)
NO_SIGN_IN = Advice("No sign-in of it is on record.", "The events say what happened.")
