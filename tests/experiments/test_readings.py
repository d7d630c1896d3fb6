"""Numeric codes: no reading hides what another would refuse, and a declaration always answers."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.errors import BatchsenseError, ConfoundedError, DataError
from batchsense.experiments import (
    BatchCorrector,
    ColumnKinds,
    LinearCorrection,
    SheetColumns,
    Table,
    compare_gaps,
    correct,
    diagnose,
    find_surrogates,
    plan_layout,
    testing,
)
from batchsense.experiments.design import read_design
from batchsense.experiments.entanglement import entanglements

ASKS = "Say which it is: --categorical code or --numeric code"


def coded(rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """Conditions with random numbers for names, some of them in one batch only."""
    conditions, replicates = int(rng.integers(7, 13)), int(rng.integers(2, 6))
    batches = int(rng.integers(2, 4))
    names = rng.choice(np.arange(1, 40), conditions, replace=False)
    if rng.random() < 0.3:
        names = names / 4  # fractions are codes as well
    home = np.arange(conditions) % batches
    code = np.repeat(names, replicates)
    place = np.repeat(home, replicates)
    crossed = rng.random(len(place)) < rng.choice([0.0, 0.1, 0.5])
    place[crossed] = rng.integers(0, batches, crossed.sum())
    return [f"b{p}" for p in place], code


def estimable(table: Table, kinds: ColumnKinds) -> bool | None:
    """Whether the code can be told from the batches under a declared reading; None: an error."""
    try:
        design = read_design(table, "batch", ["code"], kinds)
    except DataError:
        return None
    return entanglements(design)[0].confounding.estimable


def test_no_guess_hides_confounding() -> None:
    """In 24 random designs: asked where the readings differ, else the answer of both."""
    rng = np.random.default_rng(17)
    asked: list[tuple[bool | None, ...]] = []
    answered = 0
    for _ in range(24):
        batch, code = coded(rng)
        table = Table.from_arrays(rng.normal(size=(len(code), 3)), {"batch": batch, "code": code})
        if len(set(batch)) < 2:
            continue
        categories = estimable(table, ColumnKinds(categorical=["code"]))
        number = estimable(table, ColumnKinds(numeric=["code"]))
        try:
            guessed = estimable(table, ColumnKinds())
        except ConfoundedError as error:
            asked.append((number, categories, ASKS in str(error), bool(error.aliased)))
        else:
            answered += 1
            assert guessed == categories or not number
    assert set(asked) == {(True, False, True, True)}
    assert len(asked) > 4
    assert answered > 4


def confounded(seed: int = 0) -> Table:
    """Nine conditions coded 2 to 10, each in one of three batches only."""
    code = np.repeat(np.arange(2, 11), 6)
    values = np.random.default_rng(seed).normal(size=(54, 100)) + (code[:, None] - 2) // 3
    return Table.from_arrays(values, {"batch": (code - 2) // 3, "code": code})


QUESTIONS = {
    "correct": lambda t, k: LinearCorrection(
        keep=("code",), categorical=tuple(k.categorical), numeric=tuple(k.numeric)
    ).fit(t, "batch"),
    "diagnose": lambda t, k: diagnose(t, "batch", ["code"], kinds=k, permutations=20),
    "test": lambda t, k: testing.test(t, "code", "batch", kinds=k),
    "gap": lambda t, k: compare_gaps(t, "batch", "code", kinds=k),
    "surrogates": lambda t, k: find_surrogates(
        t, ["code"], known=["batch"], kinds=k, permutations=20
    ),
    "layout": lambda t, k: plan_layout(
        {"code": t.sheet["code"], "unit": t.sheet["batch"], "lock": t.sheet["batch"]},
        3,
        ["code"],
        columns=SheetColumns(k.categorical, k.numeric, "new"),
        rules=_together(),
    ),
    "BatchCorrector": lambda t, _: BatchCorrector().fit(
        t.values,
        batch_labels=t.sheet["batch"],
        covariates=np.array(t.sheet["code"], dtype=float)[:, None],
    ),
}


def _together():
    from batchsense.experiments import LayoutRules

    return LayoutRules(together="unit")


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_asks(name: str) -> None:
    """The same words everywhere; each declaration gives its own answer."""
    table = confounded()
    with pytest.raises(ConfoundedError, match=r"Say which it is: --categorical"):
        QUESTIONS[name](table, ColumnKinds())
    if name == "BatchCorrector":
        return
    QUESTIONS[name](table, ColumnKinds(numeric=["code"]))
    if name == "diagnose":
        found = QUESTIONS[name](table, ColumnKinds(categorical=["code"]))
        assert found.verdict == "not_estimable"
        return
    if name == "test":  # differences inside a batch can be told
        found = QUESTIONS[name](table, ColumnKinds(categorical=["code"]))
        assert [str(one.contrast) for one in found.refused] == ["code: 5 - 2", "code: 8 - 2"]
        return
    with pytest.raises(BatchsenseError, match=r"^((?!--numeric).)*$"):
        QUESTIONS[name](table, ColumnKinds(categorical=["code"]))


def test_two_codes_that_hide_each_other() -> None:
    """Subjects coded by number, nested in a coded arm: together they say the same as categories."""
    subject = np.repeat(np.arange(1, 13), 4)
    arm, batch = (subject - 1) % 3 + 1, np.tile(["a", "b"], 24)
    table = Table.from_arrays(np.zeros((48, 1)), {"batch": batch, "subject": subject, "arm": arm})

    with pytest.raises(ConfoundedError, match="columns to be kept say the same"):
        read_design(table, "batch", ["arm", "subject"])
    assert LinearCorrection(keep=("arm", "subject"), numeric=("subject",)).fit(table, "batch")


def test_the_safe_reading_says_that_it_is_one() -> None:
    """Few whole numbers stay categories where that refuses, and the refusal says so."""
    arm = np.repeat([1, 2, 3, 4], 6)
    table = Table.from_arrays(np.zeros((24, 1)), {"batch": arm > 2, "arm": arm})

    with pytest.raises(ConfoundedError, match="'arm' has 4 distinct whole numbers and was read as"):
        correct(table, "batch", ["arm"])


def test_ages_are_numbers_without_a_question() -> None:
    """In 200 balanced experiments with ages nobody is asked."""
    rng = np.random.default_rng(23)
    for _ in range(200):
        n = int(rng.integers(12, 120))
        age, batch = rng.integers(20, 80, n), rng.permutation(np.arange(n) % 3)
        table = Table.from_arrays(np.zeros((n, 1)), {"batch": batch, "age": age})
        if len(set(age.tolist())) <= n / 2:
            continue
        assert read_design(table, "batch", ["age"]).kept[0].kind == "numeric"


def test_ages_of_subjects_who_come_twice_are_numbers() -> None:
    """Each subject has an age of its own and one arm: as categories they would say the same."""
    rng = np.random.default_rng(29)
    for fractions in (1, 2):
        age = rng.choice(np.arange(20 * fractions, 90 * fractions), 30, replace=False) / fractions
        sheet = {"batch": ["a", "b"] * 30, "age": np.repeat(age, 2), "arm": np.arange(60) // 2 % 3}
        table = Table.from_arrays(np.zeros((60, 1)), sheet)

        assert read_design(table, "batch", ["arm", "age"]).kept[1].kind == "numeric"
