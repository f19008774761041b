"""Every TypeScript block in the documents compiles in strict mode."""

from pathlib import Path

import pytest

from tests.docs.snippets import DOCS, blocks
from tests.docs.typescript import compile_typescript

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("node_packages")]


def test_every_block_of_typescript_in_the_documents_is_correct(tmp_path: Path) -> None:
    """A block imports only packages of tests/clients/package.json. The compiler names the place of an error."""
    texts = {
        f"{'-'.join(page.relative_to(DOCS).with_suffix('').parts)}-{number}.ts": text
        for page in sorted(DOCS.rglob("*.md"))
        for number, text in enumerate(blocks(page, "ts"), 1)
    }
    assert "your-api-express-1.ts" in texts
    assert compile_typescript(tmp_path, texts) == ""


def test_a_wrong_block_of_typescript_is_found(tmp_path: Path) -> None:
    """The compiler does report errors, so the test above proves something."""
    text = 'import { jwtVerify } from "jose";\njwtVerify(1, 2);\n'
    assert "wrong.ts(2,11): error TS" in compile_typescript(tmp_path, {"wrong.ts": text})
