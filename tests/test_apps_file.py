"""The apps of APPS_FILE and their logos: what is read, and that the server names a mistake with its app and line."""

import codecs
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextarget.errors import ConfigurationError
from nextarget.model import Client, ClientLinks, LogoFile
from nextarget.settings import Settings, read_values
from nextarget.settings.apps.logos import MAX_LOGO_BYTES
from nextarget.settings.validators import MAX_APP_NAME
from tests.logos import GIF, PNG, SVG, WEBP
from tests.serving import SECRET

SHOP = """
[[app]]
client_id = "shop"
redirect_uris = ["https://shop.example/callback", "shop:/callback"]
"""
FINGERPRINT = ":".join(["0A"] * 32)
PRODUCTION = {"ENVIRONMENT": "production", "PUBLIC_URL": "https://id.example"}


def settings(folder: Path, text: str | bytes = "", **environ: str) -> Settings:
    """The settings that are read with this file of apps."""
    (folder / "apps.toml").write_bytes(text.encode() if isinstance(text, str) else text)
    return read_values(folder, environ={"JWT_SECRET_KEY": SECRET, "APPS_FILE": "apps.toml"} | environ).settings()


def problems(folder: Path, text: str | bytes = "", **environ: str) -> list[str]:
    """The messages about everything that is wrong with this file of apps."""
    with pytest.raises(ConfigurationError) as caught:
        settings(folder, text, **environ)
    return list(map(str, caught.value.problems))


def test_the_settings_make_the_first_app(tmp_path: Path) -> None:
    """Without a file of apps there is one app, and it has every value of the settings."""
    (tmp_path / "logo.png").write_bytes(PNG)
    made = read_values(
        tmp_path,
        environ={
            "JWT_SECRET_KEY": SECRET,
            "APP_CLIENT_ID": "shop",
            "APP_REDIRECT_URIS": "https://shop.example/callback,shop:/callback",
            "APP_NAME": "Café Ünal",
            "APP_LOGO": "logo.png",
            "APP_PRIVACY_URL": "https://shop.example/legal#privacy",
            "APP_TERMS_URL": "http://127.0.0.1:3000/terms",
        },
    ).settings()
    (app,) = made.clients
    assert isinstance(app.logo, LogoFile)
    assert (app.logo.content, app.logo.media_type) == (PNG, "image/png")
    links = ClientLinks("https://shop.example/legal#privacy", "http://127.0.0.1:3000/terms")
    redirects = ("https://shop.example/callback", "shop:/callback")
    assert app == Client("shop", redirects, "Café Ünal", app.logo, links)


def test_the_file_adds_any_number_of_apps(tmp_path: Path) -> None:
    """The apps of the file follow the first app, in their order. Only `client_id` is required. Keys that no route uses
    yet are kept."""
    (tmp_path / "logo.svg").write_bytes(SVG)
    text = (
        SHOP
        + """
[[app]]
client_id = "news"
name = "The News"
logo = "logo.svg"
privacy_url = "https://news.example/privacy"
terms_url = "https://news.example/terms"
android_app_links = ["com.example.news=FINGERPRINT"]
apple_app_ids = ["TEAM123456.com.example.news"]
bounce_page = true

[["app"]]  # the last
"client_id" = "native only"
logo = "https://cdn.example/logo.png?v=2"
""".replace("FINGERPRINT", FINGERPRINT)
    )
    first, shop, news, native = settings(tmp_path, text).clients
    assert first == Client("nextarget-app", ("nextarget://callback",))
    assert shop == Client("shop", ("https://shop.example/callback", "shop:/callback"))
    assert (news.name, news.redirects) == ("The News", ())
    assert isinstance(news.logo, LogoFile)
    assert news.logo.media_type == "image/svg+xml"
    assert news.links == ClientLinks("https://news.example/privacy", "https://news.example/terms")
    assert news.android_app_links == (f"com.example.news={FINGERPRINT}",)
    assert news.apple_app_ids == ("TEAM123456.com.example.news",)
    assert [app.bounce_page for app in (first, shop, news, native)] == [False, False, True, False]
    assert (native.id, native.logo) == ("native only", "https://cdn.example/logo.png?v=2")


def test_a_logo_is_looked_for_beside_the_file_that_names_it(tmp_path: Path) -> None:
    """The file of apps and its pictures can be moved together."""
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "logo.webp").write_bytes(WEBP)
    (folder / "apps.toml").write_text('[[app]]\nclient_id = "shop"\nlogo = "logo.webp"\n')
    logo = settings(tmp_path, APPS_FILE="etc/apps.toml").clients[1].logo
    assert isinstance(logo, LogoFile)
    assert logo.media_type == "image/webp"


def test_the_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """Some editors write one. It is accepted here as in `.env`."""
    (tmp_path / ".env").write_bytes(codecs.BOM_UTF8 + b"APP_NAME=NexTarget\n")
    first, shop = settings(tmp_path, codecs.BOM_UTF8 + SHOP.lstrip().encode()).clients
    assert (first.name, shop.id) == ("NexTarget", "shop")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[app]]\nclient_id = shop", "line 2, column 13 is not TOML: Invalid value. Mend that place."),
        ('[[app]]\nclient_id = "a', "end of document is not TOML: Unterminated string. Mend that place."),
        ('[[app]]\nclient_id = "a"\nclient_id = "b"\n', "line 3, column 16 is not TOML: Cannot overwrite a value."),
        ("x = " + "[" * 5000, "is nested too deeply."),
        (b"\xff", "(not UTF-8 text). Check path and permissions."),
        ('[[apps]]\nclient_id = "a"', "line 1: 'apps' is not a key of the file. Begin an app with [[app]]."),
        ('\n\nname = "a"', "line 3: 'name' is not a key of the file."),
        ('[app]\nclient_id = "a"', "'app' is no list of tables. Begin an app with [[app]]."),
        ("app = [1]", "'app' is no list of tables."),
        (SHOP + 'colour = "red"', "line 5, app 'shop': colour is not a key of an app. An app has client_id, "),
        (SHOP + 'nmae = "Shop"', "line 5, app 'shop': nmae is not a key of an app. Was name meant?"),
        ('\n[[app]]\nname = "Shop"', "line 2, app number 1: client_id is missing. Write client_id ="),
        ("[[app]]\nclient_id = 5", "line 2, app number 1: client_id is not text. Write it in quotes."),
        ('[[app]]\nclient_id = "a,b"', "line 2, app number 1: client_id holds a comma"),
        (SHOP + SHOP, "line 7, app 'shop': client_id is taken by line 3, app 'shop'. Give each app"),
        (SHOP.replace("shop", "nextarget-app", 1), "line 3, app 'nextarget-app': client_id is taken by APP_CLI"),
        (SHOP.replace("shop:/", "http://shop.example/"), "line 4, app 'shop': redirect_uris is plain http."),
        (SHOP.replace("shop:/", "https://*.shop.example/"), "line 4, app 'shop': redirect_uris holds a wildcard"),
        (SHOP.replace("shop:/", "javascript:/"), "line 4, app 'shop': redirect_uris has a scheme that"),
        (SHOP.replace("shop:/", "https:"), "line 4, app 'shop': redirect_uris names no host. Write"),
        (SHOP + 'android_app_links = ["a"]', "line 5, app 'shop': android_app_links is no package name with"),
        (SHOP + 'android_app_links = ["org.shop=AB:CD"]', "line 5, app 'shop': android_app_links is no package"),
        (SHOP + f'android_app_links = ["shop={FINGERPRINT}"]', "line 5, app 'shop': android_app_links is no"),
        (SHOP + f'android_app_links = ["org.shop={FINGERPRINT}:0A"]', "line 5, app 'shop': android_app_links is"),
        (SHOP + f'android_app_links = ["org.shop={FINGERPRINT.lower()}"]', "app 'shop': android_app_links is no"),
        (SHOP + 'bounce_page = "true"', "line 5, app 'shop': bounce_page is neither true nor false. Write it without"),
        (SHOP + 'apple_app_ids = ["?"]', "line 5, app 'shop': apple_app_ids is no app id. Write TEAMID."),
        (SHOP + 'apple_app_ids = ["TEAM12345.org.shop"]', "line 5, app 'shop': apple_app_ids is no app id."),
        (SHOP + 'apple_app_ids = ["TEAM123456."]', "line 5, app 'shop': apple_app_ids is no app id."),
        (SHOP + 'apple_app_ids = ["TEAM123456.*"]', "line 5, app 'shop': apple_app_ids is no app id."),
        ('[[app]]\nclient_id = "a"\nredirect_uris = "a:/b"', "line 3, app 'a': redirect_uris is not a list."),
        (SHOP + 'name = ""', "line 5, app 'shop': name has more than 60 characters, or none."),
        (SHOP + f'name = "{"x" * (MAX_APP_NAME + 1)}"', "line 5, app 'shop': name has more than 60"),
        (SHOP + 'name = "a\\u202eb"', "line 5, app 'shop': name has invisible characters"),
        (SHOP + 'name = "\\u3164"', "line 5, app 'shop': name has invisible characters"),
        (SHOP + 'name = "Shop\\ufe00"', "line 5, app 'shop': name has invisible characters"),
        (SHOP + 'privacy_url = "http://shop.example/"', "line 5, app 'shop': privacy_url is plain http towards"),
        (SHOP + 'terms_url = "javascript:alert(1)"', "line 5, app 'shop': terms_url is not a URL."),
        (SHOP + 'logo = "none.png"', "line 5, app 'shop': logo cannot be read (No such file or directory)."),
        (SHOP + 'logo = "."', "line 5, app 'shop': logo is no regular file."),
        (SHOP + 'logo = "logo.gif"', "line 5, app 'shop': logo is neither PNG, SVG nor WebP."),
        (SHOP + 'logo = "large.png"', "line 5, app 'shop': logo has more than 256 KiB."),
        (SHOP + 'logo = "http://cdn.example/a.png"', "line 5, app 'shop': logo is not https."),
        (SHOP + 'logo = "https://[::1]/a.png"', "line 5, app 'shop': logo is at an IPv6 address"),
        ('app = [{client_id = "a", x = 1}]', "app 'a': x is not a key of an app."),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_named_with_its_app_and_line(tmp_path: Path, text: str | bytes, said: str) -> None:
    """A problem names the place in the file, and says how to mend it."""
    (tmp_path / "logo.gif").write_bytes(GIF)
    (tmp_path / "large.png").write_bytes(PNG + bytes(MAX_LOGO_BYTES))
    (problem,) = problems(tmp_path, text)
    assert problem.startswith("APPS_FILE: ")
    assert said in problem
    assert len(problem.split(". ")) > 1


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    """One reading reports all mistakes: several in one app, in several apps, and in other settings."""
    text = SHOP + 'nmae = "Shop"\nlogo = "none.png"\n[[app]]\n' + SHOP
    assert len(problems(tmp_path, text, PORT="many", APP_LOGO="none.svg", APP_NAME="a\u202eb")) == 7


@pytest.mark.parametrize("file", ["none.toml", ".", "a\0b"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, file: str) -> None:
    """A missing file, a folder and an impossible name are problems of APPS_FILE."""
    (problem,) = problems(tmp_path, APPS_FILE=file)
    assert problem.startswith("APPS_FILE: ")


def test_a_secret_in_place_of_a_file_is_not_shown(tmp_path: Path) -> None:
    """If a secret was written in place of a path, the problem does not quote it."""
    secret = "s3cr3t" * 8 + "?"
    for name in ("APPS_FILE", "APP_LOGO"):
        (problem,) = problems(tmp_path, **{name: secret})
        assert "s3cr3t" not in problem


@pytest.mark.parametrize("name", ["APP_REDIRECT_URIS", "APPS_FILE"])
def test_production_refuses_localhost_for_every_app(tmp_path: Path, name: str) -> None:
    """The rule is the same for the settings and the file. Loopback addresses are still allowed."""
    text = '[[app]]\nclient_id = "shop"\nredirect_uris = ["http://127.0.0.1/a", "{}"]\n'
    listed = "http://localhost:3000/callback"
    assert settings(tmp_path, text.format(listed), APP_REDIRECT_URIS=listed)
    good = {"APP_REDIRECT_URIS": "https://app.example/callback"}
    changed = good | {"APP_REDIRECT_URIS": listed} if name == "APP_REDIRECT_URIS" else good
    file = text.format(listed if name == "APPS_FILE" else "https://shop.example/callback")
    (problem,) = problems(tmp_path, file, **PRODUCTION, **changed)
    assert problem.startswith(f"{name}: ")
    assert "lists http://localhost, which is for development alone. Write http://127.0.0.1 and" in problem


@pytest.mark.parametrize("key", ["privacy_url", "terms_url"])
def test_production_wants_https_for_every_link(tmp_path: Path, key: str) -> None:
    """In development, a link may lead to plain http on this machine."""
    text = f'[[app]]\nclient_id = "shop"\n{key} = "http://127.0.0.1/"\n'
    environ = {f"APP_{key.upper()}": "http://[::1]:8080/"}
    assert settings(tmp_path, text, **environ)
    said = problems(tmp_path, text, **PRODUCTION, **environ)
    assert [problem.partition(" Write")[0] for problem in said] == [
        f"APP_{key.upper()}: is not https, which production demands.",
        f"APPS_FILE: line 3, app 'shop': {key} is not https, which production demands.",
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<svg/>",
        b"<html xmlns='http://www.w3.org/2000/svg'/>",
        b"<!-- <svg xmlns='http://www.w3.org/2000/svg'/> --><html/>",
        b"RIFF\x1a\0\0\0WAVE",
        SVG[:-1],
        GIF,
        *(SVG.replace(b"?>", b' encoding="%s"?>' % encoding, 1) for encoding in (b"foo", b"hex", b"rot13")),
    ],
)
def test_a_logo_is_known_by_its_content(tmp_path: Path, content: bytes) -> None:
    """The content decides, not the name of the file. A picture that browsers would not draw is refused."""
    (tmp_path / "logo.png").write_bytes(content)
    (problem,) = problems(tmp_path, APP_LOGO="logo.png")
    assert problem.startswith("APP_LOGO: is neither PNG, SVG nor WebP.")


ENTITIES = b'<!DOCTYPE svg [<!ENTITY a "a">]>' + SVG[SVG.index(b"<svg") :]


def test_a_picture_declares_no_entities(tmp_path: Path) -> None:
    """Nested entities can exhaust the memory or the stack of a program that reads the picture."""
    (tmp_path / "logo.svg").write_bytes(ENTITIES)
    (problem,) = problems(tmp_path, APP_LOGO="logo.svg")
    assert problem.startswith("APP_LOGO: is neither PNG, SVG nor WebP.")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('client_id = "shop\\n"', "client_id cannot be read. Write plain ASCII text of at most 200 characters."),
        ('logo = "\\u0000"', "logo names no file. Write the path of a PNG, SVG or WebP file, or an https URL."),
    ],
)
def test_text_that_names_nothing_is_a_mistake(tmp_path: Path, line: str, problem: str) -> None:
    """A line break at the end of an id would make an app that no request can name."""
    (found,) = problems(tmp_path, f"[[app]]\n{line}\n" + ("" if "client_id" in line else 'client_id = "shop"\n'))
    assert found.endswith(problem)


def test_a_number_that_is_too_long_is_called_that(tmp_path: Path) -> None:
    """Python refuses to convert 5,000 digits. The problem says so, and does not blame the file's encoding."""
    (problem,) = problems(tmp_path, f"{SHOP}name = {'9' * 5000}\n")
    assert "a number in it is too long" in problem


def test_a_logo_may_have_256_kib(tmp_path: Path) -> None:
    """A logo of exactly 256 KiB is accepted; one byte more is refused."""
    (tmp_path / "logo.png").write_bytes(PNG + bytes(256 * 1024 - len(PNG)))
    assert settings(tmp_path, APP_LOGO="logo.png").clients[0].logo
    (tmp_path / "logo.png").write_bytes(PNG + bytes(256 * 1024 - len(PNG) + 1))
    assert len(problems(tmp_path, APP_LOGO="logo.png")) == 1


@given(st.text(max_size=80))
def test_a_name_is_one_line_of_visible_text(name: str) -> None:
    """A name may be in any script. It has no invisible characters, line breaks, or characters that change the direction
    of the text."""
    try:
        made = read_values(Path("/nowhere"), environ={"JWT_SECRET_KEY": SECRET, "APP_NAME": name}).settings()
    except ConfigurationError:
        return
    shown = made.clients[0].name
    assert shown is None or (shown.isprintable() and 0 < len(shown) <= MAX_APP_NAME)
