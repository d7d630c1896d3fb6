"""Tables of measured steps: whose names are read, and what is refused with its line."""

from pathlib import Path

import pytest

from batchsense.errors import DataError
from batchsense.training.workers import StepConfiguration, read_configurations, read_steps

HEADER = "nodes,workers,micro_batch,seconds\n"


def written(folder: Path, text: str, name: str = "s.csv") -> Path:
    """A file with this text."""
    path = folder / name
    path.write_text(text)
    return path


def test_repeats_are_merged_by_their_median(tmp_path: Path) -> None:
    """Three runs of one step count once; columns may have any order, with others among them."""
    path = written(
        tmp_path, "seconds,note,micro_batch,workers,nodes\n1,a,8,2,1\n9,b,8,2,1\n2,c,8,2,1\n"
    )

    table = read_steps(path)
    assert table.configurations == (StepConfiguration(1, 2, 8),)
    assert (table.seconds.tolist(), table.rows) == ([2.0], 3)


def test_public_names_are_read(tmp_path: Path) -> None:
    """A placement has one digit a node; "11" is two nodes, and "12" three workers on two nodes."""
    path = written(tmp_path, "placement,local_bsz,step_time\n11,8,0.5\n12,8,0.6\n44,8,0.7\n")
    even, uneven, full = read_steps(path).configurations

    assert (even.nodes, even.workers, even.uneven) == (2, 2, False)
    assert (uneven.nodes, uneven.workers, uneven.uneven) == (2, 3, True)
    assert full.per_node == 4

    path = written(tmp_path, "num_nodes,num_replicas,local_bsz,step_time\n6,7,8,0.5\n")
    assert read_steps(path).configurations[0].uneven


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("1,1,8,-0.5", "seconds must be a positive number, not -0.5"),
        ("1,1,8,", "seconds is missing"),
        ("1,1,8,nan", "positive number"),
        ("1,1,8,inf", "positive number"),
        ("1,1,8,fast", "a number, not 'fast'"),
        ("2,3,8,0.5", "cannot be spread evenly over 2 nodes"),
        ("4,2,8,0.5", "leave some of 4 nodes empty"),
        ("1,1.5,8,0.5", "whole number"),
        ("1,0,8,0.5", "positive"),
        ("1,1e30,8,0.5", "whole number up to"),
        ("1,1,8,1e-200", "no step takes 1e-200 seconds"),
        ("1,1,8", "3 cells under 4 column names"),
    ],
)
def test_a_row_that_cannot_be_is_named(tmp_path: Path, row: str, says: str) -> None:
    """With the line as an editor counts it, blank lines included."""
    path = written(tmp_path, f"{HEADER}1,1,4,0.3\n\n{row}\n")

    with pytest.raises(DataError, match="line 4") as caught:
        read_steps(path)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no rows"),
        (HEADER, "no rows"),
        ("nodes,workers,seconds\n1,1,1\n", "no column micro_batch"),
        ("nodes,workers,micro_batch\n1,1,1\n", "no column seconds"),
        (f"seconds,{HEADER}1,1,1,1,1\n", "two columns for seconds"),
        ("placement,local_bsz,step_time\n10,8,1\n", "one digit from 1 to 9"),
    ],
)
def test_a_table_that_is_none_is_named(tmp_path: Path, text: str, says: str) -> None:
    """An empty one, missing and doubled columns."""
    with pytest.raises(DataError, match=says):
        read_steps(written(tmp_path, text))


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """No such file; bytes that are no text."""
    with pytest.raises(DataError, match="no such file"):
        read_steps(tmp_path / "none.csv")
    path = tmp_path / "s.csv"
    path.write_bytes(b"\xff\xfe\x00nodes")
    with pytest.raises(DataError, match="no table"):
        read_steps(path)


def test_configurations_keep_their_order(tmp_path: Path) -> None:
    """Repeats stay, seconds are not needed."""
    path = written(tmp_path, "nodes\tworkers\tmicro_batch\n4\t4\t8\n1\t1\t8\n4\t4\t8\n", "c.tsv")

    assert [one.workers for one in read_configurations(path)] == [4, 1, 4]
