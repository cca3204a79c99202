"""A Ray that is to be joined and is not there: one line, at once."""

import pytest
import ray

from mergenet.errors import ConfigError
from sweeps.ray_session import joined_ray, quiet


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "ray://127.0.0.1:1", "127.0.0.1:x"])
def test_no_ray_at_the_address(address: str) -> None:
    with quiet(), pytest.raises(ConfigError) as caught, joined_ray(address):
        pass
    assert str(caught.value).startswith(
        f"--address must be that of a running Ray, as auto or HOST:6379, got {address!r}"
    )
    assert len(str(caught.value).splitlines()) == 1
    assert not ray.is_initialized()
