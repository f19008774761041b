"""The base class for the settings of a provider.

A provider declares its fields, the parameters that it sends, its checks, and the parts of its URLs that may be shown.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

from nextarget.errors import SettingProblem
from nextarget.settings.declaring import declared, declares_settings

Text = Callable[[str], str | None]
"""Returns the text of a setting, not yet checked, by the name of its field; None if the setting is not set."""


@declares_settings
class ProviderSettings:
    """The settings of one provider. The field `client_id` of `google` is the setting GOOGLE_CLIENT_ID.

    The fields without a default are the provider's credentials: the provider is on if all of them are set, and off if
    none is. A provider must have the fields `redirect_uri`, without a default, and `authorization_endpoint`, because
    the checks for all providers (`crosschecks.py`) use these names.
    """

    remedies: ClassVar[Mapping[str, str]] = {}
    """Remedies for wrong values, by field, for fields whose type alone does not give a good remedy."""
    shown_query: ClassVar[frozenset[str]] = frozenset()
    """The parameters in the query of `authorization_endpoint` that `check-config` may show."""

    @classmethod
    def sends(cls, text: Text) -> frozenset[str]:
        """Parameters of this provider's authorization request, apart from the parameters of OpenID Connect and PKCE."""
        return frozenset()

    @classmethod
    def contradictions(cls, text: Text) -> Iterator[SettingProblem]:
        """Problems of this provider's settings that do not fit together, although every one is valid by itself."""
        yield from ()

    @classmethod
    def credentials(cls) -> tuple[str, ...]:
        """The fields that turn the provider on: all fields without a default."""
        return tuple(name for name, own in declared(cls).items() if own.required)
