"""The source of the JavaScript clients: a lock with a digest for every package, and without a registry's address."""

import json
import re

from tests.clients.packages import HERE

LOCK = json.loads((HERE / "package-lock.json").read_text(encoding="utf-8"))
PACKAGE = json.loads((HERE / "package.json").read_text(encoding="utf-8"))


def test_every_package_is_locked_with_its_digest_and_from_nowhere() -> None:
    """npm uses the registry that the machine is configured for, and accepts only a package with this digest."""
    packages = {path: entry for path, entry in LOCK["packages"].items() if path}
    assert len(packages) > len(PACKAGE["dependencies"])
    for path, entry in packages.items():
        assert entry["integrity"].startswith("sha512-"), path
        assert "resolved" not in entry, path


def test_the_lock_is_that_of_the_package() -> None:
    """`npm ci` refuses another lock. Every client has one exact version."""
    assert LOCK["packages"][""]["dependencies"] == PACKAGE["dependencies"]
    assert all(re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", version) for version in PACKAGE["dependencies"].values())
