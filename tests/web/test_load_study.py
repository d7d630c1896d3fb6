"""What the web application bears: the committed study, judged."""

import json
from pathlib import Path

STUDY = Path(__file__).parents[2] / "benchmarks" / "results" / "web_load.json"


def test_it_bears_bombs_slow_clients_and_strangers():
    """Under 1 GiB with 300 slow clients; no file was lost, no stranger came in, no log ran full."""
    found = json.loads(STUDY.read_text())

    assert found["slow_clients"]["at_a_time"] == 300
    assert found["memory"]["most"] < 2**30
    assert len(found["bombs"]) >= 19
    answered = [bomb["asked"] or bomb["sent"] for bomb in found["bombs"].values()]
    assert {status for status, _ in answered} <= {200, 413, 422}
    assert found["victim"] == {
        "sent": 303, "refused_uploads": [422] * 25, "files": 200, "answer": 200
    }  # fmt: skip
    assert set(found["strangers"]["status"]) == {403}
    assert found["strangers"]["other_account"]
    assert found["token"] == {"among_arguments": 0, "second_use": 403}
    assert (found["alive"], found["tracebacks"]) == (True, 0)
    assert found["log_lines"] <= 10
