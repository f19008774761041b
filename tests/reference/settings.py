"""The settings, in the order of `Settings`: what each takes, its default, and which may come from files."""

from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Le

from nextarget.settings import FILE_SETTINGS, NAMES, SECRET_SETTINGS, Settings, validators
from nextarget.settings.fields import words_of
from tests.reference.markdown import choice, code, table

_KINDS = {
    "Origin": "a URL of scheme, host and port alone",
    "Endpoint": "a URL; `https`, or `http` on this machine",
    "ClientId": "a client id, as the provider shows it",
    "FacebookClientId": "a client id, as the provider shows it",
    "ClientSecret": "a secret, as the provider shows it",
    "SigningSecret": "a secret of at least 32 bytes",
    "Network": "an address or a network",
    "RedirectUri": "an absolute URI",
    "DatabaseUrl": "the URL of a database",
    "StorageUrl": "the URL of a storage",
    "Collector": "a URL",
    "ProxyUrl": "the URL of a proxy",
    "BrowserOrigin": "an origin, as a browser sends it",
}
"""Types of `settings/validators.py`, in words. What is not listed is `text`."""


def blocks() -> dict[str, str]:
    rows = ((code(name), _default(name), takes(name), _description(name)) for name in NAMES)
    files = "\n".join(f"- `{name}_FILE`" for name in NAMES if name in FILE_SETTINGS)
    secrets = "\n".join(f"- `{name}`" for name in NAMES if name in SECRET_SETTINGS)
    return {
        "settings": table(["setting", "default", "takes", "what it is"], rows),
        "files": files,
        "secrets": secrets,
    }


def _description(name: str) -> str:
    return Settings.model_fields[NAMES[name]].description or ""


def _default(name: str) -> str:
    field = Settings.model_fields[NAMES[name]]
    if field.is_required():
        return "required"
    value = field.default
    if isinstance(value, bool):
        return code(str(value).lower())
    text = ",".join(value) if isinstance(value, tuple) else str(value)
    return "" if value is None or not text else code(text)


def takes(name: str) -> str:
    """What a setting takes, in words, from its type."""
    if words := words_of(NAMES[name]):
        return choice(words)
    field = Settings.model_fields[NAMES[name]]
    hints = get_type_hints(Settings, include_extras=True)
    kind = _in_words(hints.get(NAMES[name], field.annotation))
    least = next((part.ge for part in field.metadata if isinstance(part, Ge)), None)
    most = next((part.le for part in field.metadata if isinstance(part, Le)), None)
    return kind if least is None or most is None else f"{kind} from {least} to {most}"


def _in_words(kind: Any) -> str:
    named = {name: getattr(validators, name, None) for name in _KINDS}
    for name, known in named.items():
        if known is not None and kind == known:
            return _KINDS[name]
    parts = [part for part in get_args(kind) if part not in {type(None), Ellipsis}]
    if (get_origin(kind) in {Union, UnionType} and len(parts) == 1) or get_origin(kind) is Annotated:
        return _in_words(parts[0])
    if get_origin(kind) is tuple:
        return f"a list; items: {_in_words(parts[0])}"
    return {int: "a number", Path: "the path of a file"}.get(kind, "text")
