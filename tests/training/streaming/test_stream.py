"""Minibatches of a table on disk: each row once, in an order that survives a kill."""

import json
import multiprocessing
import os
import signal
from itertools import chain

import anndata
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse
import torch
from pyarrow import parquet
from torch.utils.data import DataLoader

from batchsense.errors import DataError, UnresolvedError
from batchsense.experiments.diagnosis.one_way import variance_components
from batchsense.storage.rows import open_rows
from batchsense.training import Workload
from batchsense.training.streaming import BlockStream, plan_stream, shuffle_rows
from batchsense.training.streaming.pilot import read_pilot

#: torch warns of more loader processes than cores.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")
ROWS, SIZE, MEMORY = 601, 16, 8_000


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A table whose first column numbers its rows."""
    path = tmp_path_factory.mktemp("rows") / "rows.npy"
    noise = np.random.default_rng(0).normal(size=ROWS)
    np.save(path, np.column_stack([np.arange(ROWS), noise]))
    return path


def stream_of(path, memory=MEMORY, **options):
    """A stream of several small pools, however well they shuffle."""
    return BlockStream(path, options.pop("size", SIZE), memory, allowed=99.0, **options)


def numbers(stream, loaders=0):
    """The rows of each minibatch of an epoch, by their numbers."""
    loader = DataLoader(stream, batch_size=None, num_workers=loaders)
    return [minibatch[:, 0].long().tolist() for minibatch in loader]


@pytest.mark.parametrize("loaders", [0, 2])
def test_each_row_once_an_epoch_and_each_epoch_anew(rows, loaders):
    """Through torch's loader, whose length is right."""
    stream = stream_of(rows, seed=1, loaders=loaders)
    first, second = numbers(stream, loaders), numbers(stream, loaders)

    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(ROWS))
    assert first != second
    assert len(first) == len(stream)
    stream.set_epoch(1)
    assert numbers(stream, loaders) == second


@pytest.mark.parametrize("loaders", [0, 2])
def test_it_goes_on_in_the_same_order(rows, loaders):
    """After any number of minibatches, with more memory and another seed in the new process."""
    whole = stream_of(rows, seed=1, loaders=loaders)
    expected = numbers(whole, loaders)
    for taken in (7, len(expected)) if loaders else (0, 7, len(expected) - 1, len(expected)):
        whole.set_epoch(0)
        again = stream_of(rows, 2 * MEMORY, seed=5, loaders=loaders)
        again.load_state_dict(whole.state_dict(taken))
        rest = expected[taken:]
        if not rest:
            whole.set_epoch(1)
            rest = numbers(whole, loaders)

        assert numbers(again, loaders) == rest


def test_loaders_that_stay_learn_where_to_go_on(rows):
    """Processes that live for many epochs: each is another one, and a set epoch reaches them."""
    stream = stream_of(rows, seed=1, loaders=2)
    loader = DataLoader(stream, batch_size=None, num_workers=2, persistent_workers=True)
    found = [[minibatch[:, 0].long().tolist() for minibatch in loader] for _ in range(2)]
    stream.set_epoch(0)
    found.append([minibatch[:, 0].long().tolist() for minibatch in loader])
    stream.load_state_dict(stream.state_dict(9))
    rest = [minibatch[:, 0].long().tolist() for minibatch in loader]

    assert found[0] == found[2] != found[1]
    assert rest == found[0][9:]


def test_it_counts_by_itself_without_loaders(rows):
    """The state inside a training loop is the next minibatch."""
    stream = stream_of(rows)
    seen = []
    for minibatch in stream:
        seen.append(minibatch[:, 0].long().tolist())
        if len(seen) == 5:
            break
    again = stream_of(rows)
    again.load_state_dict(stream.state_dict())

    assert seen + numbers(again) == numbers(stream_of(rows))


def test_a_state_that_would_change_the_order_is_refused(rows, tmp_path, monkeypatch):
    """Another batch size, other loaders or ranks, less memory, another file."""
    state = stream_of(rows).state_dict()
    copy = tmp_path / "rows.npy"
    np.save(copy, np.load(rows)[::-1].copy())
    for stream, says in [
        (stream_of(rows, size=2 * SIZE), "batch_size"),
        (stream_of(rows, 2 * MEMORY, loaders=2), "loaders"),
        (stream_of(rows, MEMORY // 4), "memory|allowed"),
        (stream_of(copy), "changed"),
    ]:
        with pytest.raises(DataError, match=says):
            stream.load_state_dict(state)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DataError, match="ranks"):
        stream_of(rows).load_state_dict(state)
    with pytest.raises(DataError, match="not the state"):
        stream_of(rows).load_state_dict({"epoch": 1})


def test_ranks_take_disjoint_rows(rows, monkeypatch):
    """All rows together, and with drop_last as many minibatches in each rank."""
    monkeypatch.setenv("WORLD_SIZE", "3")
    found, lengths = [], set()
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        found += chain(*numbers(stream_of(rows)))
        lengths.add(len(numbers(stream_of(rows, drop_last=True))))

    assert sorted(found) == list(range(ROWS))
    assert len(lengths) == 1


def test_loaders_must_be_those_it_was_planned_for(rows):
    """Else each would take the memory of all, and the rows of others."""
    with pytest.raises(DataError, match="loaders=0"):
        next(iter(stream_of(rows, 2 * MEMORY, loaders=2)))
    with pytest.raises(DataError, match="only the training loop knows"):
        stream_of(rows, 2 * MEMORY, loaders=2).state_dict()


def train_until_killed(path, folder, step):
    """Note the rows of each minibatch and keep the state after it; die after some."""
    stream, state = stream_of(path, seed=1), folder / "state.json"
    if state.exists():
        stream.load_state_dict(json.loads(state.read_text()))
    for number, minibatch in enumerate(stream):
        with (folder / "rows.txt").open("a") as noted:
            noted.write(json.dumps(minibatch[:, 0].long().tolist()) + "\n")
        (folder / "new.json").write_text(json.dumps(stream.state_dict()))
        (folder / "new.json").replace(state)
        if number == step:
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_run_goes_on(rows, tmp_path):
    """Killed after a checkpoint and started again, the rows are those of a run left alone."""
    for step, code in ((11, -signal.SIGKILL), (9, -signal.SIGKILL), (-1, 0)):
        words = (rows, tmp_path, step)
        process = multiprocessing.get_context("fork").Process(target=train_until_killed, args=words)
        process.start()
        process.join()

        assert process.exitcode == code
    lines = [json.loads(line) for line in (tmp_path / "rows.txt").read_text().splitlines()]
    assert lines == numbers(stream_of(rows, seed=1))


def test_a_bad_shuffle_is_refused_with_what_would_do(tmp_path):
    """Sorted rows in little memory; the memory that is named suffices, a little less does not."""
    path = tmp_path / "sorted.npy"
    np.save(path, np.repeat(np.arange(20.0), 2000)[:, None] * np.ones(64))
    with pytest.raises(UnresolvedError, match="--shuffle-to"):
        BlockStream(path, 64, 600_000)
    least = plan_stream(path, 64, 600_000).least_bytes

    assert plan_stream(path, 64, int(1.02 * least)).fits
    assert not plan_stream(path, 64, int(0.9 * least)).fits
    shuffle_rows(path, tmp_path / "shuffled.npy", 2_000_000)
    assert BlockStream(tmp_path / "shuffled.npy", 64, 600_000).plan.fits


def test_the_default_memory_shuffles_sorted_rows_well(tmp_path):
    """Sorted rows of 1 KB, a sixty-fourth of the default memory and of the batch size."""
    path = tmp_path / "sorted.npy"
    np.save(path, np.repeat(np.arange(40, dtype="float32"), 500)[:, None] * np.ones(250, "float32"))
    plan = plan_stream(path, 16, 16_000_000 // 4)

    assert plan.fits
    assert plan.design_effect.high <= 1.05


def test_minibatches_vary_as_predicted(tmp_path):
    """The mean of a minibatch over 300 epochs, against the plan of a stream that is not perfect."""
    path = tmp_path / "runs.npy"
    values = np.repeat(np.random.default_rng(1).normal(size=64), 64)
    np.save(path, values[:, None])
    stream = BlockStream(path, 32, 40_000, allowed=99.0)
    effects = []
    for epoch in range(300):
        stream.set_epoch(epoch)
        minibatch = next(iter(stream))
        effects.append((float(minibatch.mean()) - values.mean()) ** 2 / (values.var() / 32))
    error = np.std(effects) / np.sqrt(len(effects))

    assert abs(np.mean(effects) - stream.plan.design_effect.estimate) < 3 * error + 0.15


def test_the_interval_is_that_of_the_experiments(tmp_path):
    """Blocks of one size are groups of one size: the same correlation and ends as there."""
    values = np.repeat(np.random.default_rng(0).normal(size=64), 32)
    values += np.random.default_rng(1).normal(size=values.size)
    np.save(tmp_path / "t.npy", values[:, None])
    found = read_pilot(open_rows(tmp_path / "t.npy"), 10**6).clusterings[0]
    expected = variance_components(values, np.repeat(np.arange(64), 32)).icc

    assert found.block == 32
    assert (found.icc.estimate, found.icc.low, found.icc.high) == pytest.approx(
        (expected.estimate, expected.low, expected.high), rel=1e-6
    )


def test_columns_are_named_tensors_and_texts_lists(tmp_path):
    """Of a Parquet file."""
    path = tmp_path / "t.parquet"
    words = [f"w{number % 7}" for number in range(300)]
    table = {"x": np.arange(300.0), "word": words, "kept": np.arange(300) % 2 == 0}
    parquet.write_table(pa.table(table), path, row_group_size=10)
    minibatch = next(iter(BlockStream(path, 8, 100_000)))

    assert minibatch["x"].dtype == torch.float64
    assert minibatch["word"] == [words[int(x)] for x in minibatch["x"]]
    assert minibatch["kept"].tolist() == [int(x) % 2 == 0 for x in minibatch["x"]]


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_a_sparse_matrix_stays_sparse_until_it_is_taken(tmp_path):
    """Cells of a CSR matrix with their type: minibatches are dense, the pool is not."""
    path = tmp_path / "cells.h5ad"
    values = np.random.default_rng(0).poisson(0.05, size=(400, 300)).astype("float32")
    kinds = pd.Categorical(np.repeat(["T", "B"], 200))
    obs = pd.DataFrame({"kind": kinds}, index=[str(number) for number in range(400)])
    anndata.AnnData(scipy.sparse.csr_matrix(values), obs=obs).write_h5ad(path)
    stream = BlockStream(path, 8, 400_000, columns=["X", "kind"])
    found = {"X": [], "kind": []}
    for minibatch in stream:
        for name, tensor in minibatch.items():
            found[name].append(tensor)
    totals = torch.cat(found["X"]).sum(dim=0).numpy()

    assert totals.tolist() == values.sum(axis=0).tolist()
    assert int(torch.cat(found["kind"]).sum()) == 200
    assert stream.source.row_bytes < 300 * 4 / 3


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_one_huge_row_is_refused_at_its_place(tmp_path):
    """A CSR matrix in which one row has more numbers than fit."""
    path = tmp_path / "huge.h5ad"
    values = scipy.sparse.random(300, 50_000, density=1e-4, format="lil", random_state=0)
    values[17] = np.ones(50_000)
    anndata.AnnData(scipy.sparse.csr_matrix(values)).write_h5ad(path)
    with pytest.raises(DataError, match="more than half") as caught:
        plan_stream(path, 1, 900_000)

    assert caught.value.where == f"{path}, row 18"


def test_a_row_group_larger_than_the_memory_is_refused_at_its_place(tmp_path):
    """It must be unpacked whole."""
    path = tmp_path / "large.parquet"
    parquet.write_table(pa.table({"x": np.random.default_rng(0).normal(size=20_000)}), path)
    with pytest.raises(DataError, match="unpacked whole") as caught:
        BlockStream(path, 16, 200_000)

    assert caught.value.where == f"{path}, row group 1"


def test_a_stream_trains_and_its_rows_can_be_planned_with(rows):
    """A Workload of random rows for measurements, the stream for the training loop."""
    stream = stream_of(rows)
    examples = stream.examples(128)

    def loss(model, minibatch):
        return (
            (model(minibatch[0][:, 1:].float()) - 2 * minibatch[0][:, 1:].float()).square().mean()
        )

    workload = Workload(torch.nn.Linear(1, 1), loss, examples, lambda p: torch.optim.SGD(p, 0.05))
    for minibatch in chain(stream, stream):
        workload.model.zero_grad()
        loss(workload.model, [minibatch]).backward()
        with torch.no_grad():
            for parameter in workload.model.parameters():
                parameter -= 0.1 * parameter.grad

    assert len({int(row[0][0]) for row in examples}) == 128
    assert abs(workload.model.weight.item() - 2) < 0.05


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.full((500, 2), np.nan), "misses values"),
        (np.ones((5, 2)), "fewer than a minibatch"),
    ],
)
def test_tables_that_tell_nothing_are_refused(values, says, tmp_path):
    """All missing, too few rows."""
    np.save(tmp_path / "t.npy", values)
    with pytest.raises(DataError, match=says):
        plan_stream(tmp_path / "t.npy", 16, 4000)


def test_a_constant_column_is_not_called_well_mixed(tmp_path):
    """Nothing varies, so nothing is known."""
    np.save(tmp_path / "t.npy", np.ones((5000, 2)))
    with pytest.raises(UnresolvedError, match="nothing varies"):
        plan_stream(tmp_path / "t.npy", 16, 40_000)


def test_one_column_can_be_the_one_that_counts(tmp_path):
    """A sorted label beside random numbers: alone it is alike, and by default it decides."""
    path = tmp_path / "t.parquet"
    noise = np.random.default_rng(0).normal(size=20_000)
    label = np.repeat(["a", "b"], 10_000)
    parquet.write_table(pa.table({"noise": noise, "label": label}), path, row_group_size=20)
    by_noise = plan_stream(path, 32, 300_000, by="noise")
    by_label = plan_stream(path, 32, 300_000, by="label")
    by_all = plan_stream(path, 32, 300_000)

    assert by_noise.icc.high < 0.1
    assert by_label.icc.estimate > 0.9
    assert by_all.icc_column.startswith("label")


def test_shuffled_tables_hold_the_same_rows(tmp_path):
    """NumPy with named fields, and Parquet with texts; through many buckets."""
    table = np.zeros(3000, dtype=[("x", "f8", (3,)), ("y", "i4")])
    table["y"] = np.arange(3000)
    table["x"] = np.arange(9000).reshape(-1, 3)
    np.save(tmp_path / "a.npy", table)
    shuffle_rows(tmp_path / "a.npy", tmp_path / "b.npy", 30_000, seed=2)
    found = np.load(tmp_path / "b.npy")

    assert (found["y"] != table["y"]).mean() > 0.99
    assert (found["x"] == table["x"][found["y"]]).all()
    assert sorted(found["y"]) == list(range(3000))
    frame = pd.DataFrame({"k": np.arange(500), "t": [f"text {n}" for n in range(500)]})
    frame.to_parquet(tmp_path / "a.parquet", row_group_size=50)
    shuffle_rows(tmp_path / "a.parquet", tmp_path / "b.parquet", 20_000)
    again = pd.read_parquet(tmp_path / "b.parquet")
    assert again["k"].tolist() != frame["k"].tolist()
    pd.testing.assert_frame_equal(again.sort_values("k").reset_index(drop=True), frame)


def test_a_shuffle_into_another_kind_is_refused(rows, tmp_path):
    """By the ending of the name, before anything is written."""
    with pytest.raises(DataError, match=r"written as \.npy"):
        shuffle_rows(rows, tmp_path / "out.parquet", 10_000)
    assert not list(tmp_path.iterdir())
