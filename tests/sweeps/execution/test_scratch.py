"""Folders of Ray's own files go with their driver, or with the next one if that was killed."""

import subprocess
import sys
from pathlib import Path

from sweeps.execution.scratch import SCRATCH, scratch_folder

HOLD = """
import sys
from pathlib import Path
from sweeps.execution.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_deleted_once_its_driver_is_gone(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        (theirs / "file").write_text("x")
        with scratch_folder(tmp_path) as first, scratch_folder(tmp_path) as second:
            assert first != second
            assert theirs.exists() and first.exists()
        other.kill()
    assert theirs.exists()
    with scratch_folder(tmp_path) as third:
        assert list(tmp_path.glob(f"{SCRATCH}*")) == [third]
    assert list(tmp_path.iterdir()) == []
