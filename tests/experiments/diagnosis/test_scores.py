"""Components and distances: independent recomputation, honest p-values, and "cannot tell"."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import silhouette_score

from batchsense.experiments import PlantedEffects, Table, plant
from batchsense.experiments.design import read_design
from batchsense.experiments.diagnosis.clustering import clusterings
from batchsense.experiments.diagnosis.scores import score


def scored(values, permutations=40, seed=0, **sheet):
    """Score a table whose first column is the batch."""
    batch, *keep = sheet
    design = read_design(Table.from_arrays(values, sheet), batch, keep)
    return score(np.asarray(values), design, np.random.default_rng(seed), permutations)


def uneven(rng, n=30, features=12):
    """Draw noise with an uneven design of three batches and two arms."""
    month = rng.permutation(np.array(["a", "b", "c"])[np.arange(n) % 3])
    drug = np.where(rng.random(n) < 0.25 + 0.5 * (month == "a"), "yes", "no")
    return rng.normal(size=(n, features)), month, drug


@pytest.mark.parametrize("seed", range(6))
def test_components_equal_regressions(seed):
    """Coordinates, R², partial R² and F equal a singular value decomposition and dense fits."""
    rng = np.random.default_rng(seed)
    values, month, drug = uneven(rng)
    values += (month == "b")[:, None] * rng.normal(size=12)
    found = scored(values, month=month, drug=drug)
    u, s, _ = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
    count = len(found.explained)
    one = np.ones((30, 1))
    batches = (month[:, None] == ["a", "b", "c"]).astype(float)
    drugs = (drug[:, None] == "yes").astype(float)

    def rss(y, *parts):
        design = np.hstack([one, *parts])
        return ((y - design @ np.linalg.lstsq(design, y, rcond=None)[0]) ** 2).sum()

    np.testing.assert_allclose(found.explained, (s**2 / (s**2).sum())[:count], rtol=1e-9)
    np.testing.assert_allclose(np.abs(found.coordinates), np.abs(u * s)[:, :count], atol=1e-8)
    for part in found.components:
        y = found.coordinates[:, part.component - 1]
        term, other = (batches, drugs) if part.name == "month" else (drugs, batches)
        full, without = rss(y, term, other), rss(y, other)
        r = 2 if part.name == "month" else 1
        f = ((without - full) / r) / (full / 26)
        assert part.alone == pytest.approx(1 - rss(y, term) / rss(y), abs=1e-10)
        assert part.partial == pytest.approx((without - full) / without, abs=1e-10)
        assert part.f == pytest.approx(f, rel=1e-8)
        assert part.p_value == pytest.approx(stats.f.sf(f, r, 26), rel=1e-8)
    weights = found.explained / found.explained.sum()
    months = [c.alone for c in found.components if c.name == "month"]
    assert found.overall["month"] == pytest.approx(float(weights @ months))
    p = np.array([c.p_value for c in found.components])
    holm = np.minimum(np.maximum.accumulate(np.sort(p) * np.arange(len(p), 0, -1)), 1)
    np.testing.assert_allclose(np.sort([c.holm for c in found.components]), np.sort(holm))


@pytest.mark.parametrize("seed", range(6))
def test_statistics_equal_their_definitions(seed):
    """Silhouette, neighbours and distance R² equal slow definitions on pairwise distances."""
    rng = np.random.default_rng(seed)
    values, month, drug = uneven(rng)
    found = scored(values, month=month, drug=drug)
    points = found.coordinates
    between = np.sqrt(((points[:, None] - points) ** 2).sum(axis=2))
    np.fill_diagonal(between, np.inf)
    near = np.argsort(between, axis=1)[:, :5]
    np.fill_diagonal(between, 0.0)
    for label, one in zip((month, drug), found.clusterings, strict=True):
        same = label[:, None] == label
        sizes = np.array([(label == level).sum() for level in label])
        # Anderson 2001: sums of squared distances within groups over group sizes.
        within = (between**2 * same / sizes).sum() / 2
        total = (between**2).sum() / 2 / 30
        counts = np.unique(label, return_counts=True)[1]
        assert one.silhouette == pytest.approx(silhouette_score(points, label), abs=1e-9)
        assert one.neighbours == pytest.approx((label[near] == label[:, None]).mean())
        assert one.neighbours_by_chance == pytest.approx((counts * (counts - 1)).sum() / 870)
        assert one.alone == pytest.approx(1 - within / total, abs=1e-9)


def test_clusters_are_found_where_they_are():
    """Batch effects cluster by batch, drug effects by drug, both by both, none by none."""
    cases = {"batch": (0.0, 2.0), "kept": (2.0, 0.0), "both": (2.0, 2.0), "neither": (0.0, 0.0)}
    for expected, (drug_sd, month_sd) in cases.items():
        table = plant(
            specimens=36,
            features=40,
            effects=PlantedEffects(drug_sd=drug_sd, month_sd=month_sd),
            seed=9,
        ).table
        found = score(
            table.values, read_design(table, "month", ["drug"]), np.random.default_rng(0), 60
        )
        assert found.clusters_by == expected


def test_an_uneven_design_is_no_cluster():
    """With a drug effect and without a batch effect the p-values of the batches are uniform."""
    p_values = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        values, month, drug = uneven(rng)
        values += 1.5 * (drug == "yes")[:, None]
        found = scored(values, permutations=59, seed=seed, month=month, drug=drug)
        one = found.clusterings[0]
        p_values.append([one.p_distance, one.p_neighbours, one.p_silhouette])

    # 0.1 % of binomial counts with chance 0.05 among 100 lie above 12.
    assert (np.mean(np.array(p_values) <= 0.05, axis=0) <= [0.10, 0.12, 0.12]).all()
    assert (np.abs(np.mean(p_values, axis=0) - 0.5) < 0.1).all()


def test_confounded_labels_cannot_be_told():
    """All treated in one batch: no permutation separates the two, and this is said."""
    values = np.random.default_rng(0).normal(size=(12, 5))
    month = np.repeat(["May", "July"], 6)
    found = scored(values, month=month, drug=np.where(month == "May", "no", "yes"))

    assert found.clusters_by == "cannot_tell"
    assert [one.p_distance for one in found.clusterings] == [None, None]
    assert "without changing the other factors" in found.clusterings[0].reason
    assert "cannot be told" in found.sentence
    assert all(c.partial is None and c.p_value is None for c in found.components)


def test_too_few_arrangements_cannot_tell():
    """Where labels can be permuted in 4 ways only, no p-value is made up."""
    values = np.random.default_rng(0).normal(size=(6, 5))
    found = scored(values, month=[*"aabbab"], drug=[*"nnyyyn"])

    assert found.clusterings[0].arrangements == 9
    assert "in 9 ways only" in found.clusterings[0].reason


def test_numeric_factors_are_taken_out_first():
    """A batch that differs only by the age of its specimens is no cluster once age is kept."""
    rng = np.random.default_rng(4)
    month = np.repeat(["a", "b"], 20)
    age = np.where(month == "a", 40.0, 60.0) + rng.normal(0, 6, 40)
    values = rng.normal(size=(40, 20)) + 0.2 * age[:, None]

    assert scored(values, month=month).clusters_by == "batch"
    assert scored(values, month=month, age=age).clusters_by == "neither"


def test_many_specimens_and_equal_points():
    """Thousands of specimens, many of them equal, give finite numbers; a silhouette draws 400."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2, size=(3000, 3)).astype(float)
    month = rng.choice(["a", "b", "c"], size=3000)
    found = scored(values, permutations=20, month=month)
    (batches,) = found.clusterings

    assert batches.neighbours == pytest.approx(1 / 3, abs=0.03)
    assert np.isfinite([batches.silhouette, batches.p_distance, batches.alone]).all()
    assert batches.arrangements == np.inf


def test_one_direction_has_no_scores():
    """A table that varies along one direction only has no plane to look at."""
    values = np.outer(np.arange(6.0), [1.0, 2.0])

    assert scored(values, month=[*"ababab"]) is None


def test_labels_may_be_renamed_and_rows_reordered():
    """Statistics do not depend on the order of specimens or the names of levels."""
    rng = np.random.default_rng(2)
    values, month, drug = uneven(rng)
    order = rng.permutation(30)
    names = {"a": "z", "b": "q", "c": "k"}
    first = scored(values, month=month, drug=drug)
    second = scored(
        values[order], month=[names[month[i]] for i in order], drug=[drug[i] for i in order]
    )

    for one, other in zip(first.clusterings, second.clusterings, strict=True):
        assert one.silhouette == pytest.approx(other.silhouette)
        assert one.neighbours == pytest.approx(other.neighbours)
        assert one.partial == pytest.approx(other.partial)


def test_clusterings_work_on_any_points():
    """The function takes coordinates of any kind: two tight clouds have silhouettes near 1."""
    rng = np.random.default_rng(0)
    cloud = np.repeat([0.0, 10.0], 15)[:, None] + 0.1 * rng.normal(size=(30, 2))
    table = Table.from_arrays(cloud, {"month": ["a"] * 15 + ["b"] * 15})
    (found,) = clusterings(cloud, read_design(table, "month"), rng, 40)

    assert found.silhouette > 0.95
    assert found.neighbours == 1.0
    assert found.p_silhouette == pytest.approx(1 / 41)
