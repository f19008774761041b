"""What a library reads from the environment by itself, so that it is written there before the library is imported."""

import os
from pathlib import Path

_METRICS = "PROMETHEUS_MULTIPROC_DIR"


def share_metrics(folder: Path | None) -> None:
    """Name the folder in which the workers of this server count together; None when one process counts for itself.

    Call it before `prometheus_client` is imported, and so before `nextarget.telemetry`. The folder is to be empty, and
    this server's alone: what another one left there would be counted as ours. What the environment named is dropped.
    """
    for name in (_METRICS, _METRICS.lower()):
        os.environ.pop(name, None)
    if folder is not None:
        os.environ[_METRICS] = str(folder)


def metrics_folder() -> Path | None:
    """The folder that `share_metrics` named."""
    text = os.environ.get(_METRICS)
    return Path(text) if text else None
