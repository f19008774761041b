"""Words of providers' errors that are documented, and so may stand in the log though they are as long as a token."""

_STANDARDS = {
    "access_denied",
    "account_selection_required",
    "consent_required",
    "interaction_required",
    "invalid_request_object",
    "invalid_request_uri",
    "login_required",
    "registration_not_supported",
    "request_not_supported",
    "request_uri_not_supported",
    "temporarily_unavailable",
    "unauthorized_client",
    "unmet_authentication_requirements",
    "unsupported_grant_type",
    "unsupported_response_type",
}
"""RFC 6749, 4.1.2.1 and 5.2; OpenID Connect Core, 3.1.2.6; OpenID Connect Unmet Authentication Requirements, 2."""

_GOOGLE = {
    "access_not_configured",
    "admin_policy_enforced",
    "app_not_configured_for_user",
    "app_not_enabled_for_user",
    "deleted_client",
    "disabled_client",
    "disallowed_useragent",
    "immediate_failed",
    "internal_failure",
    "invalid_account",
    "org_internal",
    "origin_mismatch",
    "rate_limit_exceeded",
    "redirect_uri_mismatch",
    "restricted_client",
    "unregistered_origin",
}
"""https://developers.google.com/identity/protocols/oauth2/web-server (authorization errors),
https://support.google.com/accounts/answer/16668185 and https://support.google.com/a/answer/6301076; in practice
also `restricted_client` (a consent screen is not set up), `disabled_client`, `invalid_account`, `immediate_failed`."""

_FACEBOOK = {
    "FacebookApiException",
    "GraphMethodException",
    "OAuthException",
    "authorization_code",
    "client_credentials",
    "fb_exchange_token",
    "redirect_uri_mismatch",
    "unsupported_grant_type",
    "user_denied",
}
"""Types of https://developers.facebook.com/docs/graph-api/guides/error-handling, and words of its messages."""

KNOWN_WORDS = frozenset(_STANDARDS | _GOOGLE | _FACEBOOK)
"""Words with fewer than 16 characters are never taken for a token; those that are documented stand here all the
same."""
