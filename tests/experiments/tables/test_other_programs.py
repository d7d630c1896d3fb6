"""Tables as other programs leave them: the plain numbers and labels, or a refusal; nothing else."""

from __future__ import annotations

import csv
import io
import random
from dataclasses import dataclass, field

import numpy as np
import pytest

from batchsense.errors import DataError
from batchsense.experiments import read
from batchsense.experiments.tables.delimited import read_matrix, read_sheet

IDS = [f"s{i}" for i in range(5)]
FEATURES = ["g1", "g2", "g3", "g4"]
LABELS = [["id", "plate", "drug"], *([i, "AB"[k % 2], "yes"] for k, i in enumerate(IDS))]
NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", " ": "spaces"}


@dataclass
class File:
    """A file as a program wrote it: its cells, how they are written, and what a reader must say."""

    cells: list[list[str]]
    suffix: str = ".csv"
    delimiter: str = ","
    above: list[str] = field(default_factory=list)
    ending: str = "\n"
    encoding: str = "utf-8"
    quoting: int = csv.QUOTE_MINIMAL
    notes: set[str] = field(default_factory=set)
    refusal: str = ""

    def write(self, folder, name):
        """Write it and give its path."""
        stream = io.StringIO()
        writer = csv.writer(
            stream, delimiter=self.delimiter, lineterminator=self.ending, quoting=self.quoting
        )
        writer.writerows(self.cells)
        path = folder / f"{name}{self.suffix}"
        text = "".join(line + self.ending for line in self.above) + stream.getvalue()
        path.write_bytes(text.encode(self.encoding))
        return path


def comment(file, chance):
    """Lines that begin with a mark of comments."""
    lines = ["# Program: x v2", "#", '!Series_title\t"a ""b"""', '# made by "me"', "# a, b; c"]
    chosen = chance.sample(lines, chance.randint(1, 3))
    if len(file.cells[0]) == 3 and file.delimiter in (",", ";"):
        chosen = [line for line in chosen if "," not in line] or ["#"]
    file.above += chosen
    file.notes.add("comment_lines")


def comment_below(file, chance):
    """A comment among the rows, as GEO ends its tables."""
    file.cells.insert(chance.randint(2, len(file.cells)), ["!series_matrix_table_end"])
    file.notes.add("comment_lines")


def title(file, chance):
    """A title above the table, alone or beside empty cells."""
    wide = chance.random() < 0.5 and len(file.cells[0])
    file.cells.insert(0, ["Table S1: of numbers", *[""] * (max(wide, 1) - 1)])
    if chance.random() < 0.5:
        file.cells.insert(1, [""] * max(wide, 1) if wide else [])
    file.notes.add("title_line")


def empty_columns(file, chance):
    """Columns without a name and without an entry, at the end or between."""
    place = chance.choice([len(file.cells[0]), chance.randint(1, len(file.cells[0]))])
    for cells in file.cells:
        if len(cells) >= place:
            cells[place:place] = [""] * 2


def empty_rows(file, chance):
    """Rows without an entry."""
    blank = chance.choice([[], [""] * len(file.cells[-1])])
    file.cells.insert(chance.randint(len(file.cells) - 2, len(file.cells)), blank)


def longer_rows(file, chance):
    """Some rows have further empty cells."""
    for cells in file.cells[-2:]:
        cells += [""] * chance.randint(1, 3)


def short_header(file, chance):
    """The header has no name for the ids, as R writes it."""
    file.cells[0] = file.cells[0][1:]


def nameless_corner(file, chance):
    """The header has an empty cell over the ids, as pandas writes it."""
    file.cells[0][0] = ""


def mac(file, chance):
    """Line ends of Windows or old Macs."""
    file.ending = chance.choice(["\r\n", "\r"])


def encoded(file, chance):
    """An encoding that a byte-order mark declares."""
    file.encoding = chance.choice(["utf-8-sig", "utf-16", "utf-32"])


def quoted(file, chance):
    """Everything in quotation marks."""
    file.quoting = csv.QUOTE_ALL


def declared(file, chance):
    """Excel's line about the separator."""
    file.delimiter = chance.choice(",;\t|")
    mark = file.delimiter if file.delimiter != "\t" else chance.choice(["\t", "\\t"])
    file.above.insert(0, chance.choice([f"sep={mark}", f'"sep={mark}"']))
    file.notes.add("separator")


def write_table(file, chance):
    """R's write.table: spaces, quotes, one name fewer."""
    file.suffix, file.delimiter, file.quoting = ".txt", " ", csv.QUOTE_ALL
    if chance.random() < 0.7:
        short_header(file, chance)
    file.notes.add("separator")


def tabs(file, chance):
    """Cells separated by tabs."""
    file.suffix, file.delimiter = chance.choice([".tsv", ".txt"]), "\t"


HARMLESS = [comment, title, empty_columns, empty_rows, longer_rows, mac, encoded, quoted]
HEADERS = [short_header, nameless_corner]
WAYS = [declared, write_table, tabs]


def other_separator(file, chance):
    """Cells separated otherwise than the name says."""
    file.suffix = chance.choice([".csv", ".tsv"])
    file.delimiter = chance.choice(
        [d for d in ",;\t" if d != {".csv": ",", ".tsv": "\t"}[file.suffix]]
    )
    file.refusal = f"separated by {NAMES[file.delimiter]}"


def other_spaces(file, chance):
    """Cells separated by spaces where the name says commas or tabs."""
    file.suffix, file.delimiter, file.quoting = ".csv", " ", csv.QUOTE_ALL
    file.refusal = "separated by spaces"


def windows(file, chance):
    """Letters in the encoding of Windows, without a mark."""
    file.cells[-1][0], file.encoding = "Müller", "cp1252"
    file.refusal = r"line \d+ is not UTF-8 text, which reads 'Müller' in Windows-1252"


def short_row(file, chance):
    """A row lost a cell."""
    file.cells[-1].pop(1)
    file.refusal = f"line {len(file.cells)} has"


def delimiter_at_the_end(file, chance):
    """Every row but the header ends with a delimiter."""
    for cells in file.cells[1:]:
        cells.append("")
    file.refusal = "every line but the header ends with a delimiter"


def nameless_column(file, chance):
    """A column has entries and no name."""
    for k, cells in enumerate(file.cells):
        cells.append("7" if k == 2 else "")
    file.refusal = "without (an id|a name)"


def other_number(file, chance):
    """A number as people write it."""
    odd, says = chance.choice(
        [
            ("1,5", "commas"),
            ("1.234,5", "commas"),
            ("1 234", "thousands"),
            ("1'234", "thousands"),
            ("1.234.567", "thousands"),
            ("\u22121", "hyphen"),
            ("<0.1", "detection"),
            ("5%", "0.05"),
        ]
    )
    file.cells[-1][-1], file.refusal = odd, f"which is not a number; .*{says}"


WRONG = [other_separator, other_spaces, windows, short_row, delimiter_at_the_end, nameless_column]


def matrix_cells(chance):
    """A matrix as text, with a missing value."""
    cells = [["id", *FEATURES]]
    cells += [[i, *(repr(chance.gauss(0, 1)) for _ in FEATURES)] for i in IDS]
    cells[chance.randint(1, 5)][chance.randint(1, 3)] = chance.choice(["", "NA"])
    return cells


def numbers(cells):
    """The numbers of a plain matrix."""
    return np.array(
        [[float(c) if c not in ("", "NA") else np.nan for c in r[1:]] for r in cells[1:]]
    )


def dressed(file, chance):
    """Dress a file as some program would leave it."""
    way = chance.choice([*WAYS, None])
    steps = [way] if way else []
    if way is not write_table and chance.random() < 0.4:
        steps.append(chance.choice(HEADERS))
    # What writes a header without its first cell writes neither titles nor empty columns.
    unlikely = [title, empty_columns] if {write_table, short_header} & {*steps} else []
    harmless = [step for step in HARMLESS if step not in unlikely]
    for step in (*steps, *chance.sample(harmless, chance.randint(0, 4))):
        step(file, chance)
    return file


@pytest.mark.parametrize("seed", range(40))
def test_the_plain_matrix_comes_out(tmp_path, seed):
    """However programs dress a matrix, its ids and numbers are the plain ones, and notes say so."""
    chance = random.Random(seed)
    plain = matrix_cells(chance)
    file = dressed(File([list(cells) for cells in plain]), chance)
    found = read_matrix(file.write(tmp_path, "m"))

    assert (list(found.row_ids), list(found.column_ids)) == (IDS, FEATURES)
    assert np.array_equal(found.values, numbers(plain), equal_nan=True)
    assert {note.code for note in found.notes} == file.notes


@pytest.mark.parametrize("seed", range(40))
def test_the_plain_sheet_comes_out(tmp_path, seed):
    """However programs dress a sheet, its labels are the plain ones, and notes say so."""
    chance = random.Random(seed)
    file = dressed(File([list(cells) for cells in LABELS]), chance)
    found, notes = read_sheet(file.write(tmp_path, "s"))

    assert [list(entries) for entries in found.values()] == [
        [cells[place] for cells in LABELS[1:]] for place in range(3)
    ]
    assert list(found)[1:] == LABELS[0][1:]
    assert {note.code for note in notes} == file.notes


@pytest.mark.parametrize("wrong", [*WRONG, other_number], ids=lambda wrong: wrong.__name__)
@pytest.mark.parametrize("seed", range(4))
def test_what_is_wrong_is_named(tmp_path, seed, wrong):
    """A file with one thing wrong is refused for that, in a matrix and in a sheet."""
    chance = random.Random(seed)
    files = [(read_matrix, matrix_cells(chance)), (read_sheet, [list(row) for row in LABELS])]
    for reader, cells in files[: 1 if wrong is other_number else 2]:
        file = File(cells)
        wrong(file, chance)
        with pytest.raises(DataError, match=file.refusal):
            reader(file.write(tmp_path, "m"))


def test_feature_counts(tmp_path):
    """The columns of featureCounts that tell where a gene lies are no specimens."""
    lines = [
        '# Program:featureCounts v2.0.1; Command:"featureCounts" "-a" "x.gtf" "s0.bam"',
        "Geneid\tChr\tStart\tEnd\tStrand\tLength\ts0\ts1\ts2\ts3",
        "g1\tchr1;chr1\t1;50\t9;90\t+;+\t50\t3\t0\t12\t8",
        "g2\tchr2\t4\t8\t-\t5\t1\t7\t2\t9",
    ]
    (tmp_path / "m.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "s.csv").write_text("id,run\ns0,a\ns1,a\ns2,b\ns3,b\n")
    table = read(tmp_path / "m.txt", tmp_path / "s.csv")

    assert table.values.tolist() == [[3, 1], [0, 7], [12, 2], [8, 9]]
    assert table.features == ("g1", "g2")
    assert [note.code for note in table.notes][:2] == ["comment_lines", "annotation_columns"]
    assert table.notes[0].message.startswith("Line 1 of the matrix is a comment")


def test_a_header_that_looks_like_a_comment(tmp_path):
    """QIIME and BIOM begin their header with the mark of a comment: it has a cell a column."""
    (tmp_path / "m.txt").write_text("# Constructed from biom file\n#OTU ID\ts0\ts1\no1\t1\t2\n")
    found = read_matrix(tmp_path / "m.txt")

    assert (found.corner, found.column_ids) == ("#OTU ID", ("s0", "s1"))
    assert [note.where for note in found.notes] == [("1",)]


def test_ids_that_r_rewrote(tmp_path):
    """Ids as R's make.names leaves them are matched with a note if each has one partner."""
    sheet = "id,run\n1-a,x\n1-b,x\n2 a,y\n2 b,y\n"
    (tmp_path / "s.csv").write_text(sheet)
    (tmp_path / "m.csv").write_text("id,X2.b,X1.a,X1.b,X2.a\ng1,1,2,3,4\ng2,5,6,7,8\n")
    table = read(tmp_path / "m.csv", tmp_path / "s.csv")

    assert table.sheet["run"] == ("y", "x", "x", "y")
    assert table.sheet["id"] == ("2 b", "1-a", "1-b", "2 a")
    assert [note.code for note in table.notes] == ["ids_as_r_names"]
    assert "'X2.b' for '2 b'" in table.notes[0].message

    (tmp_path / "s.csv").write_text(sheet.replace("2 a", "2-b"))
    with pytest.raises(DataError, match=r"perhaps the same: .*'X1\.a' and '1-a'"):
        read(tmp_path / "m.csv", tmp_path / "s.csv")


@pytest.mark.parametrize(
    "written", [str.upper, lambda i: f"/data/run/{i}.sorted.bam", lambda i: i.replace("-", "_")]
)
def test_ids_that_look_alike_are_named(tmp_path, written):
    """Ids that a reader would take for the same are not matched, and the pair is named."""
    ids = ["s-a", "s-b", "s-c"]
    (tmp_path / "s.csv").write_text("id,run\n" + "".join(f"{i},x\n" for i in ids))
    (tmp_path / "m.csv").write_text("id," + ",".join(map(written, ids)) + "\ng,1,2,3\nh,4,5,6\n")

    with pytest.raises(DataError, match=f"perhaps the same: '{written('s-a')}' and 's-a'"):
        read(tmp_path / "m.csv", tmp_path / "s.csv")
