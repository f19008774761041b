"""All errors that HTTP clients see, in the order of their status."""

from typing import Literal

from nextarget.errors.base import ProblemError

EventError = Literal["invalid_request", "invalid_key", "invalid_issuer", "invalid_audience", "authentication_failed"]
"""Why a security event was refused (RFC 8935, 2.4)."""


class InvalidRequest(ProblemError):
    code, status, title = "invalid_request", 400, "Invalid request"
    sentence = "The request is malformed. Check its parameters against /openapi.json."


class InvalidState(ProblemError):
    """The state does not belong to an unfinished login at this provider and in this browser."""

    code, status, title = "invalid_state", 400, "Sign-in attempt not recognised"
    oauth_error = "server_error"
    sentence = (
        "This sign-in attempt is unknown, already used, or was begun in another browser. Start the sign-in again."
    )


class LoginExpired(ProblemError):
    """The person came back after the login had expired, in the browser that began the login."""

    code, status, title = "login_expired", 400, "Sign-in took too long"
    oauth_error = "temporarily_unavailable"
    sentence = "This sign-in took longer than ten minutes. Start it again."


class SignInEnded(ProblemError):
    """All sessions of the user were ended after this sign-in began, and with them all sign-ins that had begun."""

    code, status, title = "sign_in_ended", 400, "Sign-in ended meanwhile"
    oauth_error = "server_error"
    sentence = "The sessions of this account were ended after this sign-in began. Start the sign-in again."

    def __init__(self, user_id: str) -> None:
        super().__init__()
        self.user_id = user_id


class ProviderRefused(ProblemError):
    """The provider did not accept its authorization code: it was used before, has expired, or is not real."""

    code, status, title = "provider_refused", 400, "Sign-in refused by the provider"
    oauth_error = "server_error"
    sentence = "The provider no longer accepts this sign-in attempt. Start the sign-in again."


class EventRefused(ProblemError):
    """A provider's security event was refused. The provider gets `err` and the sentence (RFC 8935, 2.3)."""

    code, status, title = "event_refused", 400, "Security event refused"
    sentence = "The security event is not a genuine one of this provider for this service."

    def __init__(self, err: EventError, reason: str) -> None:
        super().__init__(f"The security event was refused: {reason}.", note=f"security event: {err}, {reason}")
        self.err = err


class MissingToken(ProblemError):
    code, status, title = "missing_token", 401, "Access token required"
    sentence = "Send the access token in the header 'Authorization: Bearer TOKEN'."


class InvalidToken(ProblemError):
    """The token is malformed, forged or expired, or its session has ended, or its user is gone or deactivated. The
    client does not learn which."""

    code, status, title = "invalid_token", 401, "Access token not valid"
    sentence = "The access token is not valid, or no longer. Sign in again."


class InvalidGrant(ProblemError):
    """The code or refresh token is not valid, or not any more (RFC 6749, 5.2)."""

    code, status, title = "invalid_grant", 400, "Grant not valid"
    oauth_error = "invalid_grant"
    sentence = "The code or token is not valid, or no longer. Sign in again."


class InvalidClient(ProblemError):
    """The client is unknown, or sent a secret, which a public client does not have (RFC 6749, 5.2)."""

    code, status, title = "invalid_client", 401, "Unknown client"
    oauth_error = "invalid_client"
    sentence = (
        "The client_id names no app of this service, or a secret was sent. Send client_id alone: an app has no secret."
    )


class UnsupportedGrantType(ProblemError):
    code, status, title = "unsupported_grant_type", 400, "Grant type not supported"
    oauth_error = "unsupported_grant_type"
    sentence = "This grant_type is not supported. The metadata document lists the supported ones."


class UnsupportedResponseType(ProblemError):
    code, status, title = "unsupported_response_type", 400, "Response type not supported"
    oauth_error = "unsupported_response_type"
    sentence = "Only response_type=code is supported."


class InvalidScope(ProblemError):
    """The scope is not a list of scopes. An unknown scope is no error: it is left out (RFC 6749, 3.3)."""

    code, status, title = "invalid_scope", 400, "Scope malformed"
    oauth_error = "invalid_scope"
    sentence = "The scope is malformed. Send names with single spaces between them, or leave it out."


class LoginRequired(ProblemError):
    """The app sent `prompt=none`, but this server keeps no sign-in of its own in the browser, so the person has to be
    asked (OpenID Connect Core, 3.1.2.6)."""

    code, status, title = "login_required", 400, "Sign-in needs the person"
    oauth_error = "login_required"
    sentence = "Nobody can be signed in without being asked. Send the request without prompt=none."


class RedirectRefused(ProblemError):
    """The client or its redirect is not configured, so no answer may go to that redirect (RFC 6749, 4.1.2.1)."""

    code, status, title = "redirect_refused", 400, "Unknown app"
    sentence = "The app that sent you here is not known to this service, so nobody was signed in."


class AccessDenied(ProblemError):
    code, status, title = "access_denied", 403, "Sign-in cancelled"
    oauth_error = "access_denied"
    sentence = "The sign-in was cancelled at the provider. Start again to sign in."


class UserDeactivated(ProblemError):
    """The user is deactivated, and may not sign in."""

    code, status, title = "user_deactivated", 403, "Account deactivated"
    oauth_error = "access_denied"
    sentence = "This account has been deactivated. Ask the operator of this service to activate it."

    def __init__(self, user_id: str) -> None:
        super().__init__()
        self.user_id = user_id


class VisitEnded(ProblemError):
    """A form of the account page came without the cookie of a visit, or the visit has ended."""

    code, status, title = "visit_ended", 403, "Not signed in on this page"
    sentence = "You are not signed in on the account page, or not any more. Nothing was changed."


class FormRefused(ProblemError):
    """A form of the account page was sent by a page of another site, or is of another visit."""

    code, status, title = "form_refused", 403, "Form not accepted"
    sentence = "This form is out of date, or was sent by another site. Nothing was changed."


class PrefetchRefused(ProblemError):
    """A browser sent a prefetch (`Sec-Purpose`) for a page that begins a login or uses one up. Only a visit of the
    person may do that."""

    code, status, title = "prefetch_refused", 403, "Asked ahead of the visit"
    sentence = "A browser asked for this before its person did. It is answered when the person opens it."


class MetricsForbidden(ProblemError):
    """The client that asks for the metrics is not on this machine, and its address is not in METRICS_ALLOW."""

    code, status, title = "metrics_forbidden", 403, "Metrics are not for you"
    sentence = (
        "Metrics are read on the server's own machine, at 127.0.0.1 and past any proxy, "
        "or from an address that its operator lists in METRICS_ALLOW."
    )


class CrossOriginRefused(ProblemError):
    """A preflight request (Fetch standard, 3.2.2) for a method or header that pages of this origin may not send."""

    code, status, title = "cross_origin_refused", 403, "Cross-origin request not allowed"
    sentence = (
        "Pages of this origin may not send this method, or a header with it. The operator lists origins in "
        "CORS_ALLOW_ORIGINS."
    )


class NotFound(ProblemError):
    code, status, title = "not_found", 404, "Not found"
    sentence = "Nothing is served here. /openapi.json lists every route."


class SessionNotFound(ProblemError):
    code, status, title = "session_not_found", 404, "Session not found"
    sentence = "You have no such session, or it has ended. GET /users/me/sessions lists them."


class DeletionUnknown(ProblemError):
    code, status, title = "deletion_unknown", 404, "Request unknown"
    sentence = "No request to delete an account has this code. A code is kept for 180 days."


class JsonFlowOff(ProblemError):
    """JSON_FLOW is false: a sign-in needs an app, or a browser that is bound to the login."""

    code, status, title = "json_flow_off", 404, "Sign-in without a browser is switched off"
    sentence = (
        "This server has JSON_FLOW=false. Sign in through an app (/auth/authorize), or in a browser with mode=redirect."
    )


class ProviderNotConfigured(ProblemError):
    code, status, title = "provider_not_configured", 404, "Provider not configured"
    sentence = "Sign-in with this provider is not configured on this server. Choose another provider."


class MethodNotAllowed(ProblemError):
    code, status, title = "method_not_allowed", 405, "Method not allowed"
    sentence = "This route does not answer that method. The Allow header lists the methods that it answers."


class RequestTimeout(ProblemError):
    code, status, title = "request_timeout", 408, "Request too slow"
    sentence = "The request body did not arrive in time. Send it again."
    retryable = True


class PayloadTooLarge(ProblemError):
    code, status, title = "payload_too_large", 413, "Request body too large"
    sentence = "The request body is larger than 64 KiB."


class UnsupportedContentEncoding(ProblemError):
    code, status, title = "unsupported_content_encoding", 415, "Content encoding not supported"
    sentence = "Request bodies are not decompressed here. Send the body as it is, without Content-Encoding."


class ExpectationFailed(ProblemError):
    code, status, title = "expectation_failed", 417, "Expectation not supported"
    sentence = "Of the Expect header, only 100-continue is supported (RFC 9110, 10.1.1)."


class MisdirectedRequest(ProblemError):
    """The Host header of a request to the sandbox is not a name of this machine (RFC 9110, 15.5.20)."""

    code, status, title = "misdirected_request", 421, "Not this server's name"
    sentence = (
        "The sandbox answers to this machine's own names alone. Ask it as 127.0.0.1, [::1] or localhost; from an "
        "emulator, through a forwarded port."
    )


class RateLimited(ProblemError):
    """Too many requests from one client. `retry_after` is the time to wait, in seconds."""

    code, status, title = "rate_limited", 429, "Too many requests"
    sentence = "Too many requests in one minute. Wait as long as Retry-After says."
    oauth_error = "temporarily_unavailable"
    retryable = True
    retry_after = 60

    def __init__(self, *, seconds: int = 60) -> None:
        super().__init__()
        self.retry_after = seconds


class HeaderFieldsTooLarge(ProblemError):
    """A header field is too large (RFC 6585, 5). In a browser, the cause can be cookies of a parent domain that other
    sites have set."""

    code, status, title = "header_fields_too_large", 431, "Request header too large"
    sentence = "A header field is larger than 8 KiB. Send less, and only the cookies of this server."


class InternalError(ProblemError):
    """An unexpected error. The log has its traceback, with the same request id."""

    code, status, title = "internal_error", 500, "Internal error"
    oauth_error = "server_error"
    sentence = "Something failed on our side. Quote the request id when you report it."


class ProviderFailed(ProblemError):
    """The provider's answer did not follow its protocol, or the provider refused our credentials."""

    code, status, title = "provider_failed", 502, "Unusable answer from the provider"
    oauth_error = "server_error"
    sentence = "The provider's answer could not be used. Try again, or choose another provider."


class IdentityRejected(ProviderFailed):
    """The provider's statement about the person did not pass verification."""

    code, title = "identity_rejected", "Identity could not be verified"
    sentence = "The provider's statement of who signed in could not be verified. Start the sign-in again."
    reason: str

    def __init__(self, reason: str, *, note: str | None = None) -> None:
        """`note` is added to the reason in the log."""
        super().__init__(note=f"{reason}; {note}" if note else reason)
        self.reason = reason  # an app that presents a token gets this text


class ProviderUnavailable(ProblemError):
    """The provider did not answer, or answered that it is unavailable at the moment."""

    code, status, title = "provider_unavailable", 503, "Provider unavailable"
    sentence = "The provider cannot be reached at the moment. Try again in a little while."
    oauth_error = "temporarily_unavailable"
    retryable = True
    retry_after = 30

    def __init__(self, detail: str | None = None, *, note: str | None = None, retry_after: int | None = None) -> None:
        """`retry_after` is the time to wait that the provider sent, in seconds."""
        super().__init__(detail, note=note)
        if retry_after is not None:
            self.retry_after = retry_after


class DatabaseUnavailable(ProblemError):
    """The database does not answer.

    `problem` names the database and says what is wrong with it. `remedy` says what the operator can do. HTTP clients
    see neither. `cause` is one of `telemetry.metrics.DatabaseCause`.
    """

    code, status, title = "database_unavailable", 503, "Database unavailable"
    sentence = "The database cannot be reached at the moment. Try again in a little while."
    oauth_error = "temporarily_unavailable"
    retryable = True
    retry_after = 5

    def __init__(self, *, note: str | None = None, cause: str = "other", problem: str = "", remedy: str = "") -> None:
        super().__init__(note=note)
        self.cause, self.problem, self.remedy = cause, problem, remedy

    @property
    def for_operator(self) -> str:
        return f"{self.problem} {self.remedy}".strip() or self.detail

    def for_operator_of(self, argument: str) -> str:
        """Like `for_operator`, but for a database that an argument of a command named, and not the setting."""
        return self.for_operator.replace("DATABASE_URL", argument)


class NotReady(ProblemError):
    """This process should get no requests. `check` is the check that failed: draining, database or migrations."""

    code, status, title = "not_ready", 503, "Not ready"
    sentence = "This server should not be sent requests at the moment: the check that `check` names fails."
    oauth_error = "temporarily_unavailable"
    retryable = True
    retry_after = 5

    def __init__(self, check: str) -> None:
        super().__init__(note=check)
        self.members = {"check": check}
