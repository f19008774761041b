"""The settings in the order of `Settings`: their values, their defaults, and which may come from files."""

from nextarget.settings import Setting, every_setting
from tests.env_example import default_of
from tests.reference.markdown import choice, code, table


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
    """The values of a setting in words."""
    return choice(setting.words) if setting.words else setting.kind.takes
