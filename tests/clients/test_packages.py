"""What the clients in JavaScript are fetched from: a lock with a digest for each package, and no registry's address."""

import json
import re

from tests.clients.packages import HERE

LOCK = json.loads((HERE / "package-lock.json").read_text(encoding="utf-8"))
PACKAGE = json.loads((HERE / "package.json").read_text(encoding="utf-8"))


def test_every_package_is_locked_with_its_digest_and_from_nowhere() -> None:
    """npm fetches it from the registry that the machine is set to, and takes nothing else for it."""
    packages = {path: entry for path, entry in LOCK["packages"].items() if path}
    assert len(packages) > len(PACKAGE["dependencies"])
    for path, entry in packages.items():
        assert entry["integrity"].startswith("sha512-"), path
        assert "resolved" not in entry, path


def test_the_lock_is_that_of_the_package() -> None:
    """`npm ci` refuses another one; each client is named at one version."""
    assert LOCK["packages"][""]["dependencies"] == PACKAGE["dependencies"]
    assert all(re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", version) for version in PACKAGE["dependencies"].values())
