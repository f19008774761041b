"""An environment variable that a library reads when it is imported, and that has to be set before."""

import os
from pathlib import Path

_METRICS = "PROMETHEUS_MULTIPROC_DIR"


def share_metrics(folder: Path | None) -> None:
    """Set the folder in which the workers of this server keep their metrics together. None: a single process.

    Call it before `prometheus_client` is imported, and so before `nextarget.telemetry`. The folder has to be empty and
    used by this server only: files of another server would be counted too. A folder that the environment names is
    ignored.
    """
    for name in (_METRICS, _METRICS.lower()):
        os.environ.pop(name, None)
    if folder is not None:
        os.environ[_METRICS] = str(folder)


def metrics_folder() -> Path | None:
    """The folder that `share_metrics` set."""
    text = os.environ.get(_METRICS)
    return Path(text) if text else None
