"""How a benchmark writes its result: one JSON document that says where and when it was measured."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "results"


def options(description: str, name: str) -> argparse.ArgumentParser:
    """Give a parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / f"{name}.json")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def write(path: Path, seed: int, began: float, cpu_seconds: float, **found: Any) -> None:
    """Write the document in one piece; ``began`` is a POSIX time."""
    document = {
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads": 1,
            "system": platform.platform(),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("batchsense", "numpy", "scipy", "torch")},
        },
        "date": datetime.datetime.fromtimestamp(began, datetime.UTC).date().isoformat(),
        "seed": seed,
        "cpu_seconds": round(cpu_seconds, 1),
        **found,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        text = json.dumps(_rounded(document), indent=2, ensure_ascii=False, allow_nan=False)
        draft.write_text(text + "\n")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _rounded(value: Any) -> Any:
    """Keep five digits of each number; infinity and NaN become null."""
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if abs(value) < float("inf") else None
    return value


def _processor() -> str:
    """Name the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
