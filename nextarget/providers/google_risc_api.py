"""Google's RISC API: where it sends security events, and which ones.

https://developers.google.com/identity/protocols/risc#register_receiver
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nextarget.errors import OperatorError
from nextarget.model import Secret
from nextarget.providers.google_events import EVENT_TYPES
from nextarget.providers.http.client import Answer, ProviderHttp

AUDIENCE = "https://risc.googleapis.com/google.identity.risc.v1beta.RiscManagementService"
"""`aud` of the token that authorizes a request, wherever the API is."""
_PUSH = "https://schemas.openid.net/secevent/risc/delivery-method/push"
_MAX_MESSAGE = 500
_GUIDE = "https://developers.google.com/identity/protocols/risc"
_ENABLE = (
    "The RISC API is not enabled in the project of this service account. Enable it at "
    "https://console.developers.google.com/apis/library/risc.googleapis.com"
)
_REMEDIES = {
    "must be an https url": "Google sends events to https alone. Set PUBLIC_URL to the https URL of this server.",
    "spec-compliant delivery method": "Firebase receives the events of this project. Switch Google sign-in off in "
    "Firebase if nothing uses it, and try again after an hour, or use a project without it.",
    "project could not be found": "The project of this service account is gone. Use a service account of the project "
    "that has the client GOOGLE_CLIENT_ID.",
    "needs permission": "The service account may not change this. Under IAM, give it the role RISC Configuration "
    "Admin (roles/riscconfigs.admin).",
    "called by a service account": "Google takes this only from a service account. Use the JSON key of one.",
    "project's domains": "The domain of PUBLIC_URL is not one of the project's. Add it in the console, under Google "
    "Auth Platform, Branding, Authorized domains.",
    "oauth client": "The project has no OAuth client. Use a service account of the project that has the client "
    "GOOGLE_CLIENT_ID.",
    "risc configuration": "Nothing is registered in this project yet. Run the command without --status and --verify.",
    "has not been used in project": _ENABLE,
    "service_disabled": _ENABLE,
}
"""What to do about an error, by a part of its text in lower case. The texts are those of the guide's error code
reference; the last two are what every API of Google's says that is not enabled."""
_UNAUTHORIZED = (
    "Google does not accept the key of this service account. Either the key was deleted, and you need a new one, or "
    "the clock of this machine is wrong."
)


@dataclass(frozen=True, slots=True)
class Stream:
    """Where Google sends events, which types, and whether it does (`enabled` or `disabled`), as Google says it."""

    url: str
    event_types: tuple[str, ...]
    status: str


class RiscApi:
    """`token` is the bearer token of the service account. Every method raises OperatorError when Google refuses, and
    ProviderUnavailable or ProviderFailed when it does not answer as it should."""

    def __init__(self, http: ProviderHttp, url: str, token: Secret) -> None:
        self._http = http
        self._url = f"{url.rstrip('/')}/v1beta"
        self._token = token

    async def register(self, receiver: str) -> None:
        """Have all events that Google documents sent to this URL, from now on."""
        delivery = {"delivery_method": _PUSH, "url": receiver}
        await self._ask("POST", "stream:update", {"delivery": delivery, "events_requested": list(EVENT_TYPES)})
        await self._ask("POST", "stream/status:update", {"status": "enabled"})

    async def verify(self, state: str) -> None:
        """Have a verification event sent that contains `state`."""
        await self._ask("POST", "stream:verify", {"state": state})

    async def stream(self) -> Stream:
        """What is registered."""
        stream, status = await self._ask("GET", "stream"), await self._ask("GET", "stream/status")
        delivery, wanted = stream.document.get("delivery"), stream.document.get("events_requested")
        url = delivery.get("url") if isinstance(delivery, dict) else None
        types = map(str, wanted) if isinstance(wanted, list) else ()
        return Stream(str(url or ""), tuple(types), status.text("status") or "")

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        headers = {"Authorization": f"Bearer {self._token.reveal()}"}
        answer = await self._http.call_api(method, f"{self._url}/{path}", body, headers=headers)
        if not answer.ok:
            raise _refusal(answer)
        return answer


def _refusal(answer: Answer) -> OperatorError:
    """The error of Google's in plain words, with what to do."""
    error = answer.document.get("error")
    text = str(error.get("message") if isinstance(error, dict) else error)
    message = re.sub(r"[ \t\r\n]+", " ", text)[:_MAX_MESSAGE]
    found = str(answer.document).lower()
    remedy = next((text for part, text in _REMEDIES.items() if part in found), None)
    if remedy is None:
        remedy = _UNAUTHORIZED if answer.status == 401 else f"Google refuses this. {_GUIDE} lists its errors."
    return OperatorError(remedy, note=f"Google answered {answer.status}: {message}")
