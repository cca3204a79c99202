import json

import pytest

from benchmarks import report
from benchmarks.browser import missing


def test_the_figures_are_of_a_report_that_was_made(capsys: pytest.CaptureFixture[str]) -> None:
    report.main(["--trials", "6", "--json"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["figures"]
    assert found["trials"] == 6 and 4.8 < found["MB"] < 5.5
    assert found["CPU seconds"] > 0 and found["CPU seconds, again"] > 0
    assert "seconds to the table" not in found


@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason=f"needs a browser: {missing()}")
def test_a_browser_opens_and_brushes_it(capsys: pytest.CaptureFixture[str]) -> None:
    report.main(["--trials", "40", "--browser", "--json"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["figures"]
    assert found["seconds to the table"] > 0
    assert found["seconds of a brush, its drag included"] > 0
