"""W&B's client in this process: silent, as if no agent of W&B's had started it, and only where there is a server."""

import logging
import urllib.error
import urllib.request
from typing import Any

NO_AGENT = {"sweep_id": None, "sweep_param_path": None, "launch": False, "launch_config_path": None}
PROBE_SECONDS = 5


def set_up(wandb: Any) -> Any:
    """The client of this process, silent before a run has settings too, and as if no agent of W&B's had started it.

    Within a sweep or a launch of W&B's own (WANDB_SWEEP_ID, WANDB_LAUNCH) it drops a run's id and project, and adds
    the agent's settings to its config; its warnings are not heard, because it is silent.
    """
    logging.getLogger("wandb").setLevel(logging.CRITICAL)
    client = wandb.setup(settings=wandb.Settings(silent=True))
    for name, value in NO_AGENT.items():
        setattr(client.settings, name, value)
    return client


def check_reachable(base_url: str) -> None:
    """Raises OSError if there is no server. A run that could not be opened cannot be opened offline: it is "in use"."""
    try:
        with urllib.request.urlopen(f"{base_url}/graphql", timeout=PROBE_SECONDS):
            pass
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise OSError(f"{base_url}: HTTP {error.code}") from None
