"""Writes the part of `.env.example` that is about providers: `python -m tests.env_example`.

Everything in this part comes from the settings that the registered providers declare.
"""

import re
import textwrap
from pathlib import Path

from nextarget.registry import PROVIDERS, Registered
from nextarget.settings import Setting, credentials_of, every_setting

PATH = Path(__file__).parents[1] / ".env.example"
_WIDTH = 120
_BEFORE = "\n\n# --- The way out\n"


def providers_part() -> str:
    """A chapter for every provider, with a line of explanation above every setting."""
    return "\n\n".join(_chapter(entry) for entry in PROVIDERS.values())


def default_of(setting: Setting) -> str:
    """A setting's default as the documents write it, or an empty text for a setting without a default."""
    value = setting.default
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _chapter(entry: Registered) -> str:
    *others, last = credentials_of(entry.name)
    title = f"--- {entry.display_name}: on when {', '.join(others)} and {last} are set, off when none is"
    settings = (setting for setting in every_setting().values() if setting.provider == entry.name)
    return "\n".join([*_comment(title), "", *(line for setting in settings for line in _lines(setting))])


def _lines(setting: Setting) -> list[str]:
    more = " Comma-separated." if isinstance(setting.default, tuple) else ""
    more += f" May come from a file: {setting.name}_FILE." if setting.may_be_file else ""
    plain = re.sub(r"[`*]", "", setting.description)
    return [*_comment(f"{plain}{more}"), f"#{setting.name}={default_of(setting)}"]


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _rewritten(text: str) -> str:
    first = next(iter(PROVIDERS.values()))
    kept, found, rest = text.partition(f"# --- {first.display_name}:")
    assert found, "there is no part about providers"
    return f"{kept}{providers_part()}{_BEFORE}{rest.partition(_BEFORE)[2]}"


if __name__ == "__main__":
    PATH.write_text(_rewritten(PATH.read_text(encoding="utf-8")), encoding="utf-8")
