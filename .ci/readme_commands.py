"""Prints the set-up commands of the README, a line each: those of its shell blocks that start with `pip install`."""

import re
import sys
from pathlib import Path

for block in re.findall(r"^```sh\n(.*?)^```", Path(sys.argv[1]).read_text(), flags=re.M | re.S):
    for line in block.splitlines():
        if line.startswith("pip install"):
            print(line)
