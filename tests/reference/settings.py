"""The settings in the order of `Settings`: their values, their defaults, and which may come from files."""

from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Le

from nextarget.settings import Setting, Settings, every_setting, validators
from nextarget.settings.catalogue import settings_of
from tests.env_example import default_of
from tests.reference.markdown import choice, code, table

_KINDS = {
    "Origin": "a URL of scheme, host and port alone",
    "Endpoint": "a URL; `https`, or `http` on this machine",
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
"""The types of `settings/validators.py` in words. A type that is not listed is `text`."""


def blocks() -> dict[str, str]:
    settings = every_setting().values()
    rows = ((code(each.name), _default(each), takes(each), each.description) for each in settings)
    return {
        "settings": table(["setting", "default", "takes", "what it is"], rows),
        "files": "\n".join(f"- `{each.name}_FILE`" for each in settings if each.may_be_file),
        "secrets": "\n".join(f"- `{each.name}`" for each in settings if each.secret),
    }


def _default(setting: Setting) -> str:
    text = default_of(setting)
    return "required" if setting.required else code(text) if text else ""


def takes(setting: Setting) -> str:
    """The values of a setting in words, from its type."""
    if words := setting.words:
        return choice(words)
    model = settings_of(setting.provider) if setting.provider else Settings
    kind = _in_words(get_type_hints(model, include_extras=True).get(setting.field_name, setting.field.annotation))
    least = next((part.ge for part in setting.field.metadata if isinstance(part, Ge)), None)
    most = next((part.le for part in setting.field.metadata if isinstance(part, Le)), None)
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
