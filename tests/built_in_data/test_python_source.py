"""Python's own text: found, bounded, and coded so that it can be read back."""

from pathlib import Path

import numpy as np
import pytest

from batchsense.datasets import ALPHABET, python_source
from batchsense.datasets.python_source import MODULES, _read, _symbols
from batchsense.errors import DataError


def test_text_is_found_and_bounded() -> None:
    """Nearly all modules are there, between 1 and 4 million characters, nearly all known."""
    source = python_source()

    assert len(source.modules) >= len(MODULES) - 5
    assert 1e6 < len(source.text) < 4e6
    assert np.mean(source.symbols == len(ALPHABET)) < 0.001
    assert source is python_source()
    with pytest.raises(ValueError, match="read-only"):
        source.symbols[0] = 1


def test_symbols_read_back_as_text() -> None:
    """Every known character has its own symbol; all others share one."""
    text = "def f(x):\n\treturn 'é' + x  # ∑"
    back = "".join((ALPHABET + "?")[symbol] for symbol in _symbols(text))

    assert back == text.replace("é", "?").replace("∑", "?")
    assert len(set(ALPHABET)) == len(ALPHABET)


def test_a_python_without_source_is_told(tmp_path: Path) -> None:
    """An empty library folder is named, with what to do."""
    with pytest.raises(DataError, match="carries no source text of argparse") as caught:
        _read(tmp_path)

    assert caught.value.where == str(tmp_path)
