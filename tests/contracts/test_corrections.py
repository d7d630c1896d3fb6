"""What every correction must hold to: a line in ``MEMBERS`` buys a new method all of these."""

from collections.abc import Callable

import numpy as np
import pytest

from batchsense import ConfoundedError, DataError
from batchsense.experiments import CombatCorrection, Correction, LinearCorrection, Table

#: Constructors that take the kept columns.
MEMBERS: list[Callable[[tuple[str, ...]], Correction]] = [
    lambda keep: LinearCorrection(keep=keep),
    lambda keep: CombatCorrection(keep=keep),
    lambda keep: CombatCorrection(keep=keep, parametric=False),
    lambda keep: CombatCorrection(keep=keep, mean_only=True),
    lambda keep: CombatCorrection(keep=keep, shrink=False),
]


def table(seed: int = 0, drug: str = "nnnnnyyynnnyyyyynnyynyny") -> Table:
    """Make 24 specimens in three months with an unbalanced drug, 40 features."""
    rng = np.random.default_rng(seed)
    month = np.repeat(["May", "June", "July"], 8)
    effects = {"May": 0.0, "June": 1.0, "July": 3.0}
    values = rng.normal(size=(24, 40)) + np.array([effects[m] for m in month])[:, None]
    values[:, :10] += 2.0 * (np.array([*drug]) == "y")[:, None]
    return Table.from_arrays(values, {"month": month, "drug": [*drug]})


@pytest.fixture(params=MEMBERS, ids=lambda make: type(make(())).__name__)
def make(request: pytest.FixtureRequest) -> Callable[[tuple[str, ...]], Correction]:
    """Give each correction in turn."""
    return request.param


def test_the_shape_stays_and_the_input_is_not_changed(
    make: Callable[[tuple[str, ...]], Correction],
) -> None:
    """A correction returns a new array of the same shape, without NaN, and leaves its input."""
    original = table()
    before = original.values.copy()

    corrected = make(("drug",)).fit(original, "month").transform(original)

    assert corrected.values.shape == before.shape
    assert np.isfinite(corrected.values).all()
    np.testing.assert_array_equal(original.values, before)


def test_the_names_of_the_batches_do_not_matter(
    make: Callable[[tuple[str, ...]], Correction],
) -> None:
    """Renaming the batches changes nothing."""
    original = table()
    names = {"May": "z", "June": "a", "July": "m"}
    renamed = Table.from_arrays(
        original.values,
        {"month": [names[str(m)] for m in original.sheet["month"]], "drug": original.sheet["drug"]},
    )

    first = make(("drug",)).fit(original, "month").transform(original).values
    second = make(("drug",)).fit(renamed, "month").transform(renamed).values
    np.testing.assert_allclose(first, second, atol=1e-10)


def test_the_order_of_the_specimens_does_not_matter(
    make: Callable[[tuple[str, ...]], Correction],
) -> None:
    """Permuting the rows permutes the result."""
    original = table()
    order = np.random.default_rng(1).permutation(24)
    shuffled = Table.from_arrays(
        original.values[order],
        {name: [column[i] for i in order] for name, column in original.sheet.items()},
    )

    first = make(("drug",)).fit(original, "month").transform(original).values
    second = make(("drug",)).fit(shuffled, "month").transform(shuffled).values
    np.testing.assert_allclose(first[order], second, atol=1e-10)


def test_batch_means_come_together_and_the_kept_effect_stays(
    make: Callable[[tuple[str, ...]], Correction],
) -> None:
    """Over 40 draws the planted drug effect of 2 comes back, and the months no longer differ."""
    effects, months = [], []
    for seed in range(40):
        original = table(seed)
        values = make(("drug",)).fit(original, "month").transform(original).values
        treated = np.array(original.sheet["drug"]) == "y"
        effects.append(values[treated, :10].mean() - values[~treated, :10].mean())
        late = np.array(original.sheet["month"]) == "July"
        early = np.array(original.sheet["month"]) == "May"
        months.append(values[late][:, 10:].mean() - values[early][:, 10:].mean())

    assert np.mean(effects) == pytest.approx(2.0, abs=4 * np.std(effects) / np.sqrt(40))
    assert abs(np.mean(months)) < 0.1


def test_a_confounded_design_is_refused_by_name(
    make: Callable[[tuple[str, ...]], Correction],
) -> None:
    """Where the drug is the month, fitting refuses and names both."""
    hopeless = table(drug="n" * 8 + "n" * 8 + "y" * 8)

    with pytest.raises(ConfoundedError) as refusal:
        make(("drug",)).fit(hopeless, "month")
    assert any("drug" in term and "month" in term for term in refusal.value.aliased)


def test_an_unknown_batch_is_refused(make: Callable[[tuple[str, ...]], Correction]) -> None:
    """A specimen of a batch that was not fitted is an error that names the batch."""
    original = table()
    fitted = make(("drug",)).fit(original, "month")
    months = ["August", *original.sheet["month"][1:]]
    other = Table.from_arrays(original.values, {"month": months, "drug": original.sheet["drug"]})

    with pytest.raises(DataError, match="August"):
        fitted.transform(other)
