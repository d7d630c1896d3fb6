"""Wells: how they are written, which stay empty, and which are taken already."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.errors import DataError, InfeasibleError
from batchsense.experiments import LayoutRules, PlateRules, plan_layout
from batchsense.experiments.layout.wells import parse_wells, well_name


@pytest.mark.parametrize("size", [(8, 12), (16, 24), (32, 48), (1, 1)])
def test_names_and_numbers_of_wells_agree(size):
    """Every well of a plate, by its name, is that well."""
    rows, columns = size
    names = [well_name(well, columns) for well in range(rows * columns)]

    assert len(set(names)) == rows * columns
    assert parse_wells(",".join(names), size).tolist() == list(range(rows * columns))
    assert parse_wells(f"A1-{names[-1]}", size).tolist() == list(range(rows * columns))


def test_blocks_are_read_from_any_two_corners():
    """A block does not depend on which corners name it, or on zeros and small letters."""
    expected = parse_wells("B2-C4", (8, 12)).tolist()

    assert len(expected) == 6
    for text in ("C4-B2", "C2-B4", "b02-c04", " B2 - C4 ,B3"):
        assert parse_wells(text, (8, 12)).tolist() == expected


@pytest.mark.parametrize(
    "text", ["", "A", "1", "A0", "I1", "A13", "A1-", "A1-B2-C3", "A1;A2", "inside"]
)
def test_what_is_no_well_is_refused(text):
    """Misspelt wells and wells that the plate does not have."""
    with pytest.raises(DataError, match="no well"):
        parse_wells(text, (8, 12))


def trial(count=40):
    """A sheet of two arms and three sites."""
    return {"arm": [*"ab"] * (count // 2), "site": [f"{i % 3}" for i in range(count)]}


def test_empty_wells_stay_empty():
    """Neither specimens nor references stand there; the rest is balanced as before."""
    layout = plan_layout(
        trial(),
        2,
        ["arm", "site"],
        LayoutRules(reference_specimens=1),
        PlateRules((6, 8), empty_wells="edge,C3"),
    )
    plates = layout.plates
    assert plates is not None
    edge = set(parse_wells("edge,C3", (6, 8)).tolist())

    assert set(plates.empty_wells.tolist()) == edge
    for b in range(2):
        used = [*plates.wells[layout.codes == b].tolist(), *plates.reference_wells[b].tolist()]
        assert len(set(used)) == len(used) == 21
        assert not edge & set(used)
    assert plates.score < plates.random_best


def test_empty_wells_are_no_places():
    """Too many of them: by how much is said."""
    inside = PlateRules((6, 6), empty_wells="edge")
    with pytest.raises(
        InfeasibleError, match="40 specimens do not fit 2 batches with 32"
    ) as caught:
        plan_layout(trial(), 2, ["arm"], plates=inside)
    assert caught.value.needed == "8 more places"
    with pytest.raises(DataError, match="24 on plates of 16 wells that are not to stay empty"):
        plan_layout(trial(), 2, ["arm"], LayoutRules(capacities=24), inside)


def test_specimens_keep_the_wells_that_they_have():
    """A second plan after the first: what is done stays in batch and well, the rest is balanced."""
    sheet = trial()
    first = plan_layout(sheet, 2, ["arm", "site"], plates=PlateRules((5, 5)), seed=1)
    out = first.sheet()
    done = np.arange(40) % 3 > 0
    for name in ("batch", "well"):
        sheet[f"old {name}"] = [e if d else None for e, d in zip(out[name], done, strict=True)]
    second = plan_layout(
        sheet,
        2,
        ["arm", "site"],
        LayoutRules(lock="old batch", reference_specimens=2),
        PlateRules((5, 5), lock_wells="old well"),
        seed=2,
    )
    assert first.plates is not None
    assert second.plates is not None

    kept = np.flatnonzero(done)
    assert second.plates.kept == len(kept)
    assert np.array_equal(first.plates.wells[kept], second.plates.wells[kept])
    assert np.array_equal(first.codes[kept], second.codes[kept])
    for b in range(2):
        used = [
            *second.plates.wells[second.codes == b].tolist(),
            *second.plates.reference_wells[b].tolist(),
        ]
        assert len(set(used)) == len(used) == 22
    assert second.plates.score <= second.plates.random_best


def test_the_gaps_of_an_earlier_layout_are_filled():
    """Its own columns may be locked: they stay in their place, complete again."""
    sheet = {"id": [f"s{i}" for i in range(40)], **trial()}
    first = plan_layout(sheet, 2, ["arm"], plates=PlateRules((5, 5))).sheet()
    gaps = {name: list(entries) for name, entries in first.items()}
    for k in (0, 7, 20):
        gaps["batch"][k] = gaps["well"][k] = None
    locked = LayoutRules(lock="batch")
    second = plan_layout(gaps, 2, ["arm"], locked, PlateRules((5, 5), lock_wells="well")).sheet()

    assert list(second) == list(first)
    for name in ("batch", "well", "plate_row", "plate_column"):
        assert None not in second[name]
        kept = [k for k in range(40) if k not in (0, 7, 20)]
        assert [second[name][k] for k in kept] == [first[name][k] for k in kept]
    with pytest.raises(DataError, match="'well', 'plate_row', 'plate_column'"):
        plan_layout(gaps, 2, ["arm"], locked, PlateRules((5, 5)))
    with pytest.raises(DataError, match="columns 'batch' already"):
        plan_layout(gaps, 2, ["arm"])


@pytest.mark.parametrize(
    ("batches", "wells", "empty", "says"),
    [
        (["1", None], ["Z9", None], None, "row 'row 2', column 'w'.* has no well Z9"),
        ([None, None], ["A1", None], None, "row 'row 2' has the well A1 and no batch"),
        (["1", "1"], ["A1", "A1"], None, "rows 'row 2', 'row 3' are in the same well A1"),
        (["1", None], ["A1", None], "edge", "A1, which is to stay empty"),
    ],
)
def test_wells_that_cannot_be_kept_are_named(batches, wells, empty, says):
    """Contradictions name the row and the well."""
    sheet = trial(12)
    sheet |= {"b": [*batches, *[None] * 10], "w": [*wells, *[None] * 10]}
    plates = PlateRules((6, 6), empty, lock_wells="w")

    with pytest.raises(DataError, match=says):
        plan_layout(sheet, 2, ["site"], LayoutRules(lock="b"), plates)


def test_the_same_well_of_different_plates_is_no_contradiction():
    """Each batch has a plate of its own."""
    sheet = trial(12)
    sheet |= {"b": ["1", "2", *[None] * 10], "w": ["B2", "B2", *[None] * 10]}
    layout = plan_layout(
        sheet, 2, ["site"], LayoutRules(lock="b"), PlateRules((4, 6), lock_wells="w")
    )

    assert layout.sheet()["well"][:2] == ("B2", "B2")
