"""Documents of other versions and other questions are refused before anything is read of them."""

import json

import pytest

from batchsense.errors import DataError
from batchsense.storage.documents import SCHEMA_VERSION, read_result


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"schema_version": "0"}, "version '0', and this batchsense reads '1'"),
        ({"schema_version": 2}, "version 2, and this batchsense reads"),
        ({"command": "noise"}, "not a plan but of batchsense noise"),
        ({"result": None}, "holds a refusal"),
    ],
)
def test_other_documents(tmp_path, changed, says):
    """Each in words that tell how to write the right one."""
    whole = {"schema_version": SCHEMA_VERSION, "command": "plan", "result": {"size": 3}}
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(whole))
    assert read_result(path, "plan", "batchsense plan") == {"size": 3}
    path.write_text(json.dumps({**whole, **changed}))
    with pytest.raises(DataError, match=says):
        read_result(path, "plan", "batchsense plan")
