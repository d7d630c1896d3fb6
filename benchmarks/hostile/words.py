"""Words of the command line about a table: sound ones, and sometimes an odd one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hostile.tables import ODD, Drawn

COMMANDS = ("diagnose", "correct", "test", "surrogates", "gap", "layout")
#: A name that no sheet has, an empty one, an option in the place of a value, and so on.
NAMES = ("nowhere", "", " month", "--", "id", "g0", "month,drug", "month:drug", "drug:May-June")
NUMBERS = ("0", "-1", "nan", "1e400", "2.5", "99999999999999999999", "x", "")


def draw(
    rng: np.random.Generator, command: str, drawn: Drawn, files: Sequence[Path]
) -> tuple[list[str], dict[str, Path]]:
    """Words after ``batchsense``, and the outputs that they name, by option."""
    matrix, sheet = files
    words = [command, str(sheet)] if command == "layout" else [command, str(matrix), str(sheet)]
    outputs: dict[str, Path] = {}
    words += _OPTIONS[command](rng)
    suffix = "".join(matrix.suffixes) if command == "correct" else ".csv"
    if command in ("correct", "surrogates", "layout") or (
        command in ("test", "diagnose") and rng.random() < 0.5
    ):
        outputs["-o"] = matrix.parent / f"out{suffix}"
    if command == "correct" and rng.random() < 0.2:
        outputs["--save-fitted"] = matrix.parent / "fitted.npz"
    if rng.random() < 0.02:
        outputs["--report"] = matrix.parent / "page.html"
    for option, path in outputs.items():
        words += [option, str(path)]
    if rng.random() < 0.7:
        words.append("--json")
    if rng.random() < ODD:
        words += ["--seed", str(rng.choice(["1", "9223372036854775807", "18446744073709551616"]))]
    if rng.random() < ODD / 4:
        named = {*outputs, *map(str, outputs.values())}
        places = [place for place, word in enumerate(words) if place and word not in named]
        words[int(rng.choice(places))] = str(rng.choice([*NAMES, *NUMBERS]))
    return words, outputs


def _column(rng: np.random.Generator, *likely: str) -> str:
    if rng.random() < ODD / 4:
        return str(rng.choice([*NAMES, "month", "drug", "age", "subject"]))
    return str(rng.choice(likely))


def _some(rng: np.random.Generator, *switches: str) -> list[str]:
    return [switch for switch in switches if rng.random() < ODD]


def _kept(rng: np.random.Generator) -> list[str]:
    words = []
    for _ in range(int(rng.choice([0, 1, 2], p=[0.2, 0.6, 0.2]))):
        words += ["--keep", _column(rng, "drug", "drug", "age", "subject")]
    return words + _kinds(rng)


def _kinds(rng: np.random.Generator) -> list[str]:
    kinds = ("--categorical", "--numeric")
    return [word for kind in kinds if rng.random() < ODD / 2 for word in (kind, "drug")]


def _diagnose(rng: np.random.Generator) -> list[str]:
    words = ["--batch", _column(rng, "month"), *_kept(rng), "--permutations", "20"]
    return [*words, *_some(rng, "--standardise"), *([] if rng.random() < 0.1 else ["--no-placebo"])]


def _correct(rng: np.random.Generator) -> list[str]:
    words = ["--batch", _column(rng, "month"), *_kept(rng)]
    method = rng.choice(["linear", "combat", "combat-seq"], p=[0.4, 0.4, 0.2])
    words += ["--method", str(method), *_some(rng, "--despite-confounding")]
    if method == "combat":
        words += _some(rng, "--mean-only", "--non-parametric")
        if rng.random() < ODD:
            words += ["--reference", str(rng.choice(["May", "June", "1", "nowhere"]))]
    return words + (["--out-of-core"] if rng.random() < 0.05 else [])


def _test(rng: np.random.Generator) -> list[str]:
    words = ["--batch", _column(rng, "month")]
    words += ["--contrast", _column(rng, "drug", "drug", "drug", "drug:June-May", "age")]
    if rng.random() < ODD:
        words += ["--keep", _column(rng, "age", "subject")]
    words += _some(rng, "--ordinary", "--trend", "--robust", "--corrected")
    return words + _kinds(rng)


def _surrogates(rng: np.random.Generator) -> list[str]:
    words = ["--keep", _column(rng, "drug"), "--permutations", "20", *_kinds(rng)]
    if rng.random() < 0.4:
        words += ["--known", _column(rng, "month", "age")]
    if rng.random() < 0.4:
        words += ["--count", str(rng.choice(["1", "2", "50"]))]
    return words + (["--method", "two-step"] if rng.random() < 0.3 else [])


def _gap(rng: np.random.Generator) -> list[str]:
    words = ["--batch", _column(rng, "month"), "--predict", _column(rng, "drug", "age", "subject")]
    words += ["--repeats", "1", *_some(rng, "--standardise", "--categorical", "--numeric")]
    if rng.random() < 0.5:
        words += ["--correct", str(rng.choice(["none", "linear", "combat"]))]
    models = ["nearest", "logistic", "ridge", "forest"]
    odds = [0.4, 0.25, 0.3, 0.05]
    return words + (["--model", str(rng.choice(models, p=odds))] if rng.random() < 0.5 else [])


def _layout(rng: np.random.Generator) -> list[str]:
    words = ["--batches", str(rng.choice(["2", "3", "4", "40"], p=[0.5, 0.3, 0.15, 0.05]))]
    words += ["--balance", _column(rng, "drug", "age", "drug,age", "month")]
    pairs = {
        "--together": "subject",
        "--apart": "subject",
        "--capacity": str(rng.choice(["12", "24", "40", "0", "4,4", "-3"])),
        "--plate": str(rng.choice(["4x6", "8x12", "8x12", "0x1", "1000x1000"])),
        "--empty-wells": str(rng.choice(["edge", "A1", "A1-B3", "Z9"])),
        "--reference-specimens": str(rng.choice(["1", "2", "-1"])),
        "--lock": "month",
        "--column": str(rng.choice(["plate", "plate", "month", ""])),
    }
    for option, value in pairs.items():
        if rng.random() < ODD:
            words += [option, value]
    return words


_OPTIONS = {
    "diagnose": _diagnose,
    "correct": _correct,
    "test": _test,
    "surrogates": _surrogates,
    "gap": _gap,
    "layout": _layout,
}
