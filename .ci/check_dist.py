"""Check what `make dist` built: the wheel has the whole package and nothing else, and starts."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: What somebody who has only the source archive needs to build, test and document.
NEEDED = ("pyproject.toml", "README.md", "LICENSE", "Makefile", "constraints.txt", "CHANGELOG.md")
FOLDERS = ("src", "tests", "docs", "changes", "benchmarks")


def complaints(folder: Path) -> list[str]:
    """Name what is missing or too much in the two files of a folder."""
    wheels, archives = list(folder.glob("*.whl")), list(folder.glob("*.tar.gz"))
    if len(wheels) != 1 or len(archives) != 1:
        return [f"one wheel and one archive are wanted, not {len(wheels)} and {len(archives)}"]
    return [*_of_wheel(wheels[0]), *_of_archive(archives[0])]


def _of_wheel(path: Path) -> list[str]:
    package = ROOT / "src" / "batchsense"
    wanted = {
        str(file.relative_to(package.parent))
        for file in package.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    with zipfile.ZipFile(path) as wheel:
        held = set(wheel.namelist())
        about = next(name for name in held if name.endswith(".dist-info/METADATA"))
        metadata = wheel.read(about).decode()
    found = [f"the wheel lacks {name}" for name in sorted(wanted - held)]
    found += [
        f"the wheel has {name}" for name in sorted(held - wanted) if ".dist-info/" not in name
    ]
    for line in ("License-Expression: BSD-3-Clause", "Requires-Python: >=3.11"):
        if line not in metadata:
            found.append(f"the metadata lacks {line!r}")
    with tempfile.TemporaryDirectory() as place:
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", place]
        subprocess.run([*install, str(path)], check=True)
        ask = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {place!r}); "]
        ask[-1] += "import batchsense; print(batchsense.__file__, batchsense.__version__)"
        said = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split()
    if not said[0].startswith(place) or f"Version: {said[1]}\n" not in metadata:
        found.append(f"the installed package is {' '.join(said)}")
    return found


def _of_archive(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    found = [f"the archive lacks {name}" for name in NEEDED if name not in held]
    tops = {name.partition("/")[0] for name in held}
    return found + [f"the archive lacks {name}/" for name in FOLDERS if name not in tops]


if __name__ == "__main__":
    wrong = complaints(Path(sys.argv[1]))
    print("\n".join(wrong) or "wheel and archive are whole")
    sys.exit(bool(wrong))
