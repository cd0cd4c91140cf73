"""The settings of the model server. Each setting is a flag of the command line."""

import os
from dataclasses import dataclass
from pathlib import Path

from config_fields import Validated, setting


@dataclass(frozen=True)
class Settings(Validated):
    """The validated settings.

    Attributes:
        models_dir: Contains one subdirectory per model, each with one subdirectory per version.
        models: The names of the models to serve. If empty, all models in the directory are served.
    """

    models_dir: Path
    models: tuple[str, ...] = ()
    host: str = setting("127.0.0.1", "Listen on this address.")
    port: int = setting(
        8500, "Listen on this port. 0 picks a free one and prints it.", low=0, high=65535
    )
    require_manifest: bool = setting(
        False, "Refuse versions without a manifest.json, because their files cannot be checked."
    )
    ssl_config_file: Path | None = setting(  # noqa: RUF009
        None,
        "Serve over TLS with the SSLConfig message in this file, in protobuf text format.",
    )
    poll_interval_s: float = setting(
        1.0, "Time in seconds between two checks for new versions.", above=0
    )
    max_workers: int = setting(
        4 * (os.cpu_count() or 1), "Number of threads that process requests.", low=1
    )
    max_concurrent_rpcs: int = setting(
        1024,
        "Refuse further requests with RESOURCE_EXHAUSTED while this many are in flight.",
        low=1,
    )
    grace_s: float = setting(
        10.0, "Time in seconds that requests in flight get to finish at shutdown.", low=0
    )

    @classmethod
    def display_name(cls, field_name: str) -> str:
        """Return the flag of a setting."""
        return "--" + field_name.replace("_", "-")
