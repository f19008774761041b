"""Options that several commands have."""

from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

SandboxOption = Annotated[
    bool, typer.Option("--sandbox", help="Work on the sandbox of this folder, which `serve --sandbox` runs.")
]
