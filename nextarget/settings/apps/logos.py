"""Logos of apps: a picture file on this machine, which is read and checked once, or the URL of a picture elsewhere."""

import hashlib
import stat
from pathlib import Path
from urllib.parse import urlsplit
from xml.parsers import expat

from nextarget.model import LogoFile
from nextarget.settings.showing import HIDDEN, shown_file
from nextarget.settings.validators import check_url

MAX_LOGO_BYTES = 256 * 1024
_SVG_ROOT = "http://www.w3.org/2000/svg svg"
"""Browsers draw an `svg` element only if it has this namespace (SVG 2, 5.1)."""


def load_logo(written: str, directory: Path) -> LogoFile | str:
    """The logo that a setting names: an https URL, or the content of a file. A relative path starts at `directory`.

    Raises ValueError with a text that says what is wrong, and after the first full stop what to do.
    """
    if "://" in written:
        return _checked_url(written)
    content = _read(written, directory)
    return LogoFile(content, _media_type(content), hashlib.sha256(content).hexdigest()[:32])


def _checked_url(url: str) -> str:
    parts = urlsplit(check_url(url))
    if parts.scheme != "https":
        raise ValueError("is not https. Write an https:// URL, or the path of a PNG, SVG or WebP file.")
    if ":" in (parts.hostname or ""):
        raise ValueError("is at an IPv6 address, which no Content-Security-Policy can allow. Write a host name.")
    return url


def _read(written: str, directory: Path) -> bytes:
    path = directory / written
    if "\0" in written:
        raise ValueError("names no file. Write the path of a PNG, SVG or WebP file, or an https URL.")
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would block
            raise ValueError("is no regular file. Write the path of a PNG, SVG or WebP file.")
        with path.open("rb") as file:
            content = file.read(MAX_LOGO_BYTES + 1)
    except OSError as error:
        if shown_file(written) == HIDDEN:
            raise ValueError("names no file. Write the path of a PNG, SVG or WebP file, or an https URL.") from None
        raise ValueError(f"cannot be read ({error.strerror}). Check path and permissions.") from None
    if len(content) > MAX_LOGO_BYTES:
        raise ValueError("has more than 256 KiB. Make the picture smaller.")
    return content


def _media_type(content: bytes) -> str:
    """The media type, which depends on the content and not on the name of the file."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "image/webp"
    if _is_svg(content):
        return "image/svg+xml"
    raise ValueError("is neither PNG, SVG nor WebP. Convert the picture to one of them.")


def _is_svg(content: bytes) -> bool:
    """Whether the content is well-formed XML without entities of its own, and its root is an `svg` element in the
    namespace of SVG. A picture needs no entities, and nested ones can exhaust memory or the stack of a parser."""
    elements: list[str] = []
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = lambda name, _attributes: elements.append(name)
    parser.EntityDeclHandler = _refuse_entities
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, ValueError, LookupError):  # LookupError: an encoding that Python does not know
        return False
    return elements[:1] == [_SVG_ROOT]


def _refuse_entities(*_declared: object) -> None:
    raise ValueError
