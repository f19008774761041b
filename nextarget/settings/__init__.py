"""Reads the environment and `.env`; no other package does. All problems are reported together, with their remedies.

Services and the packages below them get plain arguments from `runtime`; a provider gets the settings that it declares.
What a start seldom needs (`apps.apps_file`, `apps.logos`, `showing`, python-dotenv) is imported where it is used.
"""

from nextarget.settings.catalogue import Setting, credentials_of, every_setting, file_settings
from nextarget.settings.crosschecks import doubts
from nextarget.settings.fields import Environment, ProxyHeader, Settings
from nextarget.settings.kinds import Network
from nextarget.settings.provider_settings import ProviderSettings
from nextarget.settings.shared import metrics_folder, share_metrics
from nextarget.settings.sources import ProviderState, Value, Values, read_values
from nextarget.settings.subsets import DatabaseSettings, PurgeSettings, ReceiverSettings, SomeSettings, TokenSettings
from nextarget.settings.validators import is_loopback

__all__ = [
    "DatabaseSettings",
    "Environment",
    "Network",
    "ProviderSettings",
    "ProviderState",
    "ProxyHeader",
    "PurgeSettings",
    "ReceiverSettings",
    "Setting",
    "Settings",
    "SomeSettings",
    "TokenSettings",
    "Value",
    "Values",
    "credentials_of",
    "doubts",
    "every_setting",
    "file_settings",
    "is_loopback",
    "metrics_folder",
    "read_values",
    "share_metrics",
]
