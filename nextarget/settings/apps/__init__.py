"""The apps: the first one comes from the `APP_*` settings, further ones from a file; and their logos."""

from nextarget.model import Client, ClientLinks, LogoFile
from nextarget.settings.fields import Settings


def first_app(settings: Settings, logo: LogoFile | str | None) -> Client:
    """The app of the `APP_*` settings, with the logo that APP_LOGO names."""
    return Client(
        settings.app_client_id,
        settings.app_redirect_uris,
        settings.app_name,
        logo,
        ClientLinks(settings.app_privacy_url, settings.app_terms_url),
        settings.android_app_links,
        settings.apple_app_ids,
        settings.app_bounce_page,
    )
