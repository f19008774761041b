"""TypeScript's compiler, with the packages that tests/clients fetches."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.clients.packages import MODULES, SEARCHED

_OPTIONS = {
    "strict": True,
    "target": "es2023",
    "lib": ["es2023", "dom"],
    "module": "esnext",
    "moduleResolution": "bundler",
    "preserveSymlinks": True,
    "moduleDetection": "force",  # every file is a module, so two snippets may use the same name
    "types": ["node"],
    "skipLibCheck": True,
}


def compile_typescript(folder: Path, texts: Mapping[str, str], *, emit: bool = False) -> str:
    """Check TypeScript files in an empty folder; with `emit`, also compile them. Return the compiler's messages, or
    an empty text."""
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    (folder / "node_modules").symlink_to(MODULES)
    config = {"compilerOptions": _OPTIONS | {"noEmit": not emit}, "files": sorted(texts)}
    (folder / "tsconfig.json").write_text(json.dumps(config), encoding="utf-8")
    compiled = subprocess.run(
        [MODULES / ".bin/tsc", "--project", folder, "--pretty", "false"],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PATH": SEARCHED},
        timeout=120,
    )
    return compiled.stdout + compiled.stderr if compiled.returncode else ""
