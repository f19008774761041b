"""The only reader of the environment and of `.env`; every problem is reported at once, with its remedy.

Lower rooms take plain arguments from `runtime`; a provider takes the settings that it declares itself.
"""

from nextarget.settings.catalogue import Setting, credentials_of, every_setting, file_settings
from nextarget.settings.crosschecks import doubts
from nextarget.settings.fields import Environment, Settings
from nextarget.settings.provider_settings import ProviderSettings
from nextarget.settings.shared import metrics_folder, share_metrics
from nextarget.settings.showing import shown
from nextarget.settings.sources import Value, Values, read_values
from nextarget.settings.validators import Network, ProxyHeader, is_loopback

__all__ = [
    "Environment",
    "Network",
    "ProviderSettings",
    "ProxyHeader",
    "Setting",
    "Settings",
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
    "shown",
]
