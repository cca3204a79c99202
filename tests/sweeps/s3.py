"""An S3 server for a test: moto's, in this process. Its client is pyarrow's, as in a sweep."""

import urllib.request
from typing import Any, Self

BUCKET = "sweeps"
KEYS = {"AWS_ACCESS_KEY_ID": "canary-4711", "AWS_SECRET_ACCESS_KEY": "canary-4712", "AWS_DEFAULT_REGION": "us-east-1"}


class S3:
    """Use as a context manager; `stop` and `start` make an outage. environment: what a client needs."""

    def __init__(self) -> None:
        self.server: Any = None
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/{BUCKET}", method="PUT"), timeout=20).close()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return KEYS | {"AWS_ENDPOINT_URL": self.endpoint}

    def start(self) -> None:
        from moto.server import ThreadedMotoServer

        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self.server.start()
        _, self.port = self.server.get_host_and_port()

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop()
            self.server = None
