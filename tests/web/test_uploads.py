"""Files of every kind: what is read, what is refused, and that nothing of a refused one stays."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from batchsense.cli.main import run
from batchsense.errors import DataError
from batchsense.web.entrance.guard import TooLargeError
from batchsense.web.files.archives import pack, unpack
from batchsense.web.files.contents import check_contents

anndata = pytest.importorskip("anndata")
pytestmark = pytest.mark.filterwarnings("ignore:zarr v3 autosharding", "ignore:.*Writing zarr v2")

MOST = 1_000_000


def zipped(path: Path, entries: dict[str, bytes]) -> Path:
    """Write an archive with these names."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def folder_zipped(folder: Path, target: Path) -> Path:
    """Pack a folder as a file manager does, its own name first."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in sorted(folder.rglob("*")):
            archive.write(part, part.relative_to(folder.parent))
    return target


@pytest.fixture
def cells(files, tmp_path):
    """An AnnData object of the small experiment, with counts in a layer."""
    matrix = pd.read_csv(files[0], index_col=0)
    obs = pd.read_csv(files[1], index_col=0).astype(str)
    var = pd.DataFrame(index=matrix.columns)
    counts = np.rint(np.exp(matrix.to_numpy() - matrix.to_numpy().min())) % 97
    return anndata.AnnData(matrix.to_numpy(), obs=obs, var=var, layers={"counts": counts})


@pytest.fixture
def tenx(files, tmp_path):
    """The same numbers as a folder of 10x Genomics."""
    from scipy.io import mmwrite
    from scipy.sparse import coo_array

    matrix = pd.read_csv(files[0], index_col=0)
    folder = tmp_path / "filtered_matrix"
    folder.mkdir()
    with (folder / "matrix.mtx").open("wb") as stream:
        mmwrite(stream, coo_array(np.rint(matrix.to_numpy().T * 10)))
    (folder / "barcodes.tsv").write_text("".join(f"{name}\n" for name in matrix.index))
    (folder / "features.tsv").write_text("".join(f"{name}\t{name}\n" for name in matrix.columns))
    return folder


def corrected_by_the_command(capsys, monkeypatch, folder, *words):
    """Give the document of the command line, run where the files lie."""
    monkeypatch.chdir(folder)
    assert run(["correct", *words, "--batch", "month", "--keep", "drug", "--json"]) == 0
    return capsys.readouterr().out


def test_a_worksheet_is_chosen(browser, files, capsys, monkeypatch):
    """The first worksheet is shown, another one on demand; the answer is that of FILE.xlsx#NAME."""
    book = files[1].with_name("book.xlsx")
    sheet = pd.read_csv(files[1])
    with pd.ExcelWriter(book) as writer:
        pd.DataFrame({"remark": ["x"]}).to_excel(writer, sheet_name="Read me", index=False)
        sheet.to_excel(writer, sheet_name="June", index=False)

    first = browser.send("diagnose", files[0], book)
    assert "remark" in first.text
    assert "columns of “Read me”" in first.text
    second = browser.get("/diagnose/columns?worksheet=June")
    assert "3 values: m0, m1, m2" in second.text
    assert '<input type="hidden" name="worksheet" value="June">' in second.text
    assert browser.get("/diagnose/columns?worksheet=July").status_code == 422
    fields = {"batch": "month", "keep": "drug", "permutations": "20", "worksheet": "June"}
    result = browser.run("diagnose", **fields)
    assert "book.xlsx#June" in result.text

    monkeypatch.chdir(book.parent)
    words = ["diagnose", "m.csv", "book.xlsx#June", "--batch", "month", "--keep", "drug"]
    assert run([*words, "--permutations", "20", "--json"]) == 0
    assert capsys.readouterr().out == browser.get("/diagnose/result.json").text
    assert 'value="June" selected' in browser.get("/diagnose/again").text.replace("  ", " ")


def test_a_workbook_of_one_worksheet_asks_nothing(browser, files, capsys, monkeypatch):
    """A layout of a workbook: the sheet to download is text."""
    book = files[1].with_name("people.xlsx")
    pd.read_csv(files[1]).to_excel(book, index=False)
    assert "Worksheet" not in browser.send("layout", book).text
    browser.run("layout", batches="3", balance="drug")

    monkeypatch.chdir(book.parent)
    words = ["layout", "people.xlsx", "--batches", "3", "--balance", "drug", "--json"]
    assert run([*words, "-o", "people-layout.csv"]) == 0
    assert capsys.readouterr().out == browser.get("/layout/result.json").text
    assert Path("people-layout.csv").read_bytes() == browser.get("/layout/file").content


def test_a_layer_is_chosen(browser, cells, tmp_path, capsys, monkeypatch):
    """The layers of an .h5ad are offered; counts in one are corrected as counts."""
    cells.write_h5ad(tmp_path / "cells.h5ad")
    form = browser.send("correct", tmp_path / "cells.h5ad").text
    assert '<option value="counts">counts</option>' in form
    browser.run("correct", batch="month", keep="drug", method="combat-seq", layer="counts")

    words = ["cells.h5ad", "--layer", "counts", "--method", "combat-seq"]
    output = ["-o", "cells-corrected.h5ad"]
    expected = corrected_by_the_command(capsys, monkeypatch, tmp_path, *words, *output)
    assert expected == browser.get("/correct/result.json").text


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
@pytest.mark.parametrize("layer", ["none", "../X", "../../../x", "/", ".", "counts/"])
def test_a_layer_that_is_none_is_refused(browser, cells, tmp_path, kind, layer):
    """What is no name of a layer, a path for example, is bad data and leads nowhere."""
    path = tmp_path / f"cells.{kind}"
    if kind == "h5ad":
        cells.write_h5ad(path)
    else:
        cells.write_zarr(path)
        path = folder_zipped(path, tmp_path / "cells.zip")
    browser.send("diagnose", path)

    answer = browser.run("diagnose", batch="month", layer=layer)
    assert answer.status_code == 422, answer.text[-800:]
    assert "layer" in answer.text


def test_a_worksheet_of_what_is_no_workbook_means_nothing(browser, files):
    """The field of another sheet, sent along, is not made part of a path."""
    browser.send("diagnose", *files)
    fields = {"batch": "month", "keep": "drug", "permutations": "20"}
    answer = browser.run("diagnose", **fields, worksheet="/../../x")

    assert answer.status_code == 200
    assert "batchsense diagnose m.csv s.csv --batch" in answer.text
    assert browser.get("/diagnose/columns?worksheet=/../../x").status_code == 200


def test_a_recorded_correction_names_its_batch(browser, cells, tmp_path, capsys, monkeypatch):
    """A corrected .h5ad is tested with the batch that it records, as on the command line."""
    cells.write_h5ad(tmp_path / "cells.h5ad")
    corrected_by_the_command(
        capsys, monkeypatch, tmp_path, "cells.h5ad", "-o", "cells-corrected.h5ad"
    )
    browser.send("test", tmp_path / "cells-corrected.h5ad")
    browser.run("test", contrast="drug")

    words = ["test", "cells-corrected.h5ad", "--contrast", "drug", "--json"]
    assert run([*words, "-o", "cells-corrected-tests.csv"]) == 0
    assert capsys.readouterr().out == browser.get("/test/result.json").text


def test_a_store_comes_and_goes_as_an_archive(browser, cells, tmp_path, capsys, monkeypatch):
    """A zipped .zarr is corrected; the result is a zipped store with the layer of the command."""
    cells.write_zarr(tmp_path / "cells.zarr")
    packed = folder_zipped(tmp_path / "cells.zarr", tmp_path / "sent.zip")
    assert "Correct cells.zarr" in browser.send("correct", packed).text
    result = browser.run("correct", batch="month", keep="drug")
    assert "Download cells-corrected.zarr.zip" in result.text

    words = ["cells.zarr", "-o", "cells-corrected.zarr"]
    expected = corrected_by_the_command(capsys, monkeypatch, tmp_path, *words)
    assert expected == browser.get("/correct/result.json").text
    with zipfile.ZipFile(io.BytesIO(browser.get("/correct/file").content)) as archive:
        archive.extractall(tmp_path / "got")
    got = anndata.read_zarr(tmp_path / "got" / "cells-corrected.zarr")
    wanted = anndata.read_zarr(tmp_path / "cells-corrected.zarr")
    np.testing.assert_array_equal(wanted.layers["batchsense"], got.layers["batchsense"])


def test_counts_of_10x_come_as_a_tar(browser, files, tenx, tmp_path, capsys, monkeypatch):
    """A folder with a matrix.mtx, packed as 10x Genomics offers it, below other folders."""
    with tarfile.open(tmp_path / "counts.tar.gz", "w:gz") as archive:
        archive.add(tenx, "./outs/filtered_matrix")
    browser.send("correct", tmp_path / "counts.tar.gz", files[1])
    result = browser.run("correct", batch="month", keep="drug")
    assert "Download filtered_matrix-corrected.zip" in result.text

    words = ["filtered_matrix", "s.csv", "-o", "filtered_matrix-corrected"]
    expected = corrected_by_the_command(capsys, monkeypatch, tmp_path, *words)
    assert expected == browser.get("/correct/result.json").text
    with zipfile.ZipFile(io.BytesIO(browser.get("/correct/file").content)) as archive:
        for name in ("matrix.mtx", "barcodes.tsv", "features.tsv"):
            wanted = (tmp_path / "filtered_matrix-corrected" / name).read_bytes()
            assert wanted == archive.read(f"filtered_matrix-corrected/{name}")


def test_parquet_is_read(browser, files, tmp_path, capsys, monkeypatch):
    """Matrix and sheet as Parquet; the result is Parquet too."""
    pd.read_csv(files[0], index_col=0).to_parquet(tmp_path / "m.parquet")
    pd.read_csv(files[1]).to_parquet(tmp_path / "s.parquet")
    browser.send("correct", tmp_path / "m.parquet", tmp_path / "s.parquet")
    browser.run("correct", batch="month", keep="drug")

    words = ["m.parquet", "s.parquet", "-o", "m-corrected.parquet"]
    expected = corrected_by_the_command(capsys, monkeypatch, tmp_path, *words)
    assert expected == browser.get("/correct/result.json").text
    wanted = (tmp_path / "m-corrected.parquet").read_bytes()
    assert wanted == browser.get("/correct/file").content


def tar_of(kind: bytes, name: str) -> bytes:
    """Make an archive with one entry that is no file."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, "/etc/passwd"
        archive.addfile(entry)
    return stream.getvalue()


def zip_of_a_link() -> bytes:
    """Make an archive with a symbolic link."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        entry = zipfile.ZipInfo("x.zarr/.zgroup")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    return stream.getvalue()


def zip_of(*names: str) -> bytes:
    """Make an archive with these names."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, "{}")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.zip", zip_of("../escaped"), "a place outside itself"),
        ("a.zip", zip_of("x.zarr/../../escaped"), "a place outside itself"),
        ("a.zip", zip_of("/tmp/escaped"), "a place outside itself"),
        ("a.zip", zip_of("..\\escaped"), "a place outside itself"),
        ("a.zip", zip_of("x/\x1b[2J"), "no usable name"),
        ("a.zip", zip_of("/".join("x" * 30)), "no usable name"),
        ("a.zip", zip_of("x.zarr/.zgroup", "x.zarr/.zgroup/a"), "twice"),
        ("a.zip", zip_of_a_link(), "is a link or no plain file"),
        ("a.tar", tar_of(tarfile.SYMTYPE, "x.zarr"), "is a link or no plain file"),
        ("a.tar", tar_of(tarfile.LNKTYPE, "x.zarr"), "is a link or no plain file"),
        ("a.tar", tar_of(tarfile.FIFOTYPE, "pipe"), "is a link or no plain file"),
        ("a.zip", zip_of("m.csv"), "neither a Zarr store nor a folder with a matrix.mtx"),
        (
            "a.zip",
            zip_of("a/.zgroup", "b/matrix.mtx"),
            "several matrices: &#39;a&#39;",
        ),
        ("a.zip", b"PK\x03\x04 and no more", "damaged archive"),
        ("a.tgz", b"\x1f\x8b and no more", "damaged archive"),
        ("a.tar.gz", b"no gzip", "damaged archive"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_are_not_taken(browser, visitors, name, content, words):
    """Paths out of the archive, links, devices, other contents: refused; no file stays anywhere."""
    sheet = ("s.csv", b"id,month\na,b\n")
    answer = browser.post("/diagnose/files", files={"matrix": (name, content), "sheet": sheet})

    assert answer.status_code == 422
    assert words in answer.text
    assert "batchsense-web-" not in answer.text
    assert [path for path in visitors.root.rglob("*") if path.is_file()] == []
    assert not list(visitors.root.parent.glob("escaped"))


def test_an_encrypted_archive_is_refused(tmp_path):
    """Without the password nothing can be read."""
    path = zipped(tmp_path / "a.zip", {"x.zarr/zarr.json": b"{}"})
    content = bytearray(path.read_bytes())
    for start in (b"PK\x03\x04", b"PK\x01\x02"):  # the flag, in the entry and in the directory
        content[content.index(start) + (6 if start.endswith(b"\x04") else 8)] |= 1
    path.write_bytes(content)

    with pytest.raises(DataError, match=r"cannot be unpacked: .*encrypted"):
        unpack(path, MOST)


def test_what_systems_leave_in_archives_is_dropped(tmp_path):
    """Folders of macOS and its files are not taken for a store."""
    names = ["__MACOSX/._x.zarr", "__MACOSX/x/zarr.json", "x.zarr/.DS_Store", "x.zarr/zarr.json"]
    path = zipped(tmp_path / "a.zip", dict.fromkeys(names, b"{}"))

    root = unpack(path, MOST)
    assert root == tmp_path / "x.zarr"
    assert [part.name for part in root.iterdir()] == ["zarr.json"]
    assert list(tmp_path.iterdir()) == [root]


@pytest.mark.parametrize(
    ("sent", "inside", "name"),
    [
        ("cells.zarr.zip", "zarr.json", "cells.zarr"),
        ("store.zip", ".zgroup", "store.zarr"),
        ("run.zip", "deep/er/lanes/matrix.mtx.gz", "lanes"),
        ("lanes.tar", "matrix.mtx", "lanes"),
    ],
)
def test_what_comes_out_has_the_name_that_the_command_line_needs(tmp_path, sent, inside, name):
    """A store ends in .zarr; a folder of counts keeps its name, or that of the archive."""
    path = tmp_path / sent
    if sent.endswith(".zip"):
        zipped(path, {inside: b"{}"})
    else:
        with tarfile.open(path, "w") as archive:
            archive.addfile(tarfile.TarInfo(inside))

    assert unpack(path, MOST).name == name


def test_an_archive_is_counted_while_it_unfolds(tmp_path):
    """A small archive of large files stops at the limit, whatever it declares."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.zarr/zarr.json", "{}")
        archive.writestr("x.zarr/c/0", b"0" * (MOST + 1))
    assert path.stat().st_size < MOST / 100

    with pytest.raises(TooLargeError):
        unpack(path, MOST)
    assert list(tmp_path.iterdir()) == [path]


def test_packing_gives_equal_bytes_for_equal_files(tmp_path):
    """An archive of a result holds no times, and its folder is gone."""
    contents = []
    for when in ("first", "second"):
        folder = tmp_path / when / "x.zarr"
        folder.mkdir(parents=True)
        (folder / "zarr.json").write_text("{}")
        contents.append(pack(folder).read_bytes())
        assert not folder.exists()

    assert contents[0] == contents[1]


def test_a_store_that_would_run_code_is_refused(browser, visitors, tmp_path):
    """The pickle codec of Zarr is Python code; a store that names it is never opened."""

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    entries = {".zgroup": {"zarr_format": 2}, "obs/.zgroup": {"zarr_format": 2}}
    array = {"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "order": "C"}
    array |= {"compressor": None, "fill_value": None, "filters": [{"id": "pickle"}]}
    parts = {f"x.zarr/{name}": json.dumps(text).encode() for name, text in entries.items()}
    parts["x.zarr/obs/_index/.zarray"] = json.dumps(array).encode()
    parts["x.zarr/obs/_index/0"] = pickle.dumps(Evil())
    path = zipped(tmp_path / "x.zip", parts)

    answer = browser.send("diagnose", path)
    assert answer.status_code == 422
    assert "the codec &#39;pickle&#39;" in answer.text
    assert not (tmp_path / "ran").exists()
    assert [part for part in visitors.root.rglob("*") if part.is_file()] == []


@pytest.mark.parametrize(
    "document",
    [
        {"zarr_format": 3, "codecs": [{"name": "numcodecs.pickle"}]},
        {
            "zarr_format": 3,
            "codecs": [{"name": "sharding_indexed", "configuration": {"codecs": ["evil"]}}],
        },
        {"zarr_format": 3, "consolidated_metadata": {"metadata": {"a": {"codecs": ["evil"]}}}},
        {
            "zarr_format": 3,
            "consolidated_metadata": {"metadata": {"attributes": {"codecs": [{"name": "evil"}]}}},
        },
    ],
)
def test_unknown_codecs_are_found_wherever_they_are_named(tmp_path, document):
    """In a node, inside a shard, in the copy of all metadata."""
    (tmp_path / "zarr.json").write_text(json.dumps(document))

    with pytest.raises(DataError, match="the codec"):
        check_contents(tmp_path, MOST)


def test_what_users_note_beside_an_array_is_no_codec(tmp_path):
    """Attributes may hold any word."""
    noted = {"zarr_format": 3, "attributes": {"filters": ["pass"], "shape": [10**9], "dtype": "f8"}}
    (tmp_path / "zarr.json").write_text(json.dumps(noted))
    (tmp_path / ".zmetadata").write_text(
        json.dumps({"metadata": {"x/.zattrs": {"codecs": ["anything"]}}})
    )

    check_contents(tmp_path, MOST)


def test_arrays_without_chunks_are_counted_by_their_shape(tmp_path):
    """A store of a few bytes may stand for terabytes."""
    array = {"shape": [10**6, 10**6], "dtype": "<f8", "zarr_format": 2}
    (tmp_path / ".zarray").write_text(json.dumps(array))

    with pytest.raises(TooLargeError):
        check_contents(tmp_path, MOST)


def test_an_hdf5_file_that_unfolds_without_end_is_refused(browser, visitors, tmp_path):
    """A compressed data set is counted by its shape before anything is read."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5ad", "w") as root:
        root.create_dataset("X", (10**5, 10**5), "f8", compression="gzip")

    answer = browser.send("diagnose", tmp_path / "x.h5ad")
    assert answer.status_code == 413
    assert "unfolds to more than ten times" in answer.text
    assert [part for part in visitors.root.rglob("*") if part.is_file()] == []


@pytest.mark.parametrize("how", ["link", "external", "virtual"])
def test_an_hdf5_file_that_reads_others_is_refused(browser, tmp_path, how):
    """Links and data in other files of this machine would show what the visitor may not see."""
    h5py = pytest.importorskip("h5py")
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as root:
        root["x"] = np.arange(4.0)
    with h5py.File(tmp_path / "x.h5ad", "w") as root:
        group = root.create_group("layers")
        group["again"] = group  # a circle
        if how == "link":
            group["x"] = h5py.ExternalLink(str(secret), "/x")
        elif how == "external":
            group.create_dataset("x", (4,), "f8", external=[(str(secret), 0, 32)])
        else:
            source = h5py.VirtualSource(str(secret), "x", shape=(4,))
            shape = h5py.VirtualLayout(shape=(4,), dtype="f8")
            shape[:] = source
            group.create_virtual_dataset("x", shape)

    answer = browser.send("diagnose", tmp_path / "x.h5ad")
    assert answer.status_code == 422
    assert "refers to another file" in answer.text


@pytest.mark.parametrize("suffix", [".h5ad.gz", ".H5AD.GZ"])
def test_a_second_ending_hides_nothing(browser, tmp_path, suffix):
    """A file that readers would open as HDF5 is looked at as HDF5; no form takes such a name."""
    h5py = pytest.importorskip("h5py")
    path = tmp_path / f"x{suffix}"
    with h5py.File(path, "w") as root:
        root["x"] = h5py.ExternalLink("/etc/passwd", "/")

    with pytest.raises(DataError, match="refers to another file"):
        check_contents(path, MOST)
    answer = browser.send("diagnose", path)
    assert answer.status_code == 422
    assert "unknown kind of file &#39;.h5ad.gz&#39;" in answer.text


@pytest.mark.parametrize("suffix", [".xlsx", ".parquet", ".h5ad", ".tar.gz", ".csv.gz"])
def test_damaged_files_are_left_to_their_readers(tmp_path, suffix):
    """The look inside refuses nothing that it cannot understand."""
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"nonsense")

    check_contents(path, MOST)


def test_a_workbook_that_unfolds_to_too_much_is_refused(browser, files, tmp_path, monkeypatch):
    """Its parts are added up before any of them is read."""
    book = tmp_path / "s.xlsx"
    shutil.copy(files[1], book)
    monkeypatch.setattr("batchsense.web.files.contents._LARGEST_WORKBOOK", 1000)
    pd.read_csv(files[1]).to_excel(book, index=False)

    answer = browser.send("diagnose", files[0], book)
    assert answer.status_code == 422
    assert "save the worksheet with the specimens as .csv" in answer.text


@pytest.mark.parametrize("part", ["xl/workbook.xml", "xl/worksheets/sheet1.xml"])
def test_a_workbook_of_broken_xml_is_refused(browser, files, tmp_path, part):
    """Markup that ends early is bad data, not a bug."""
    good, bad = tmp_path / "good.xlsx", tmp_path / "s.xlsx"
    pd.read_csv(files[1]).to_excel(good, index=False)
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(bad, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content[: len(content) // 2] if name == part else content)

    answer = browser.send("layout", bad)
    assert answer.status_code == 422
    assert "s.xlsx" in answer.text


def test_a_large_table_of_parquet_is_refused(tmp_path):
    """Rows times columns, whatever the encoding saves."""
    frame = pd.DataFrame(np.zeros((MOST // 100, 100)), columns=[f"g{i}" for i in range(100)])
    frame.to_parquet(tmp_path / "m.parquet")
    assert (tmp_path / "m.parquet").stat().st_size < MOST / 10

    with pytest.raises(TooLargeError):
        check_contents(tmp_path / "m.parquet", MOST)


def test_wide_table_needs_no_sheet(browser):
    """One text with labels among its columns leads to a form that asks which are no features."""
    rows = [f"s{k},{'MJ'[k % 2]},{'xy'[k // 8]},{k * k % 7}.5,{k * 5 % 11}.25" for k in range(16)]
    table = "\n".join(["id,month,drug,a,b", *rows])

    form = browser.post("/diagnose/files", files={"matrix": ("w.csv", table)})
    assert "Columns that are no features" in form.text

    chosen = {"sheet-columns": ["month", "drug"], "batch": "month", "keep": "drug"}
    answer = browser.run("diagnose", **chosen)
    assert "Read as one wide table" in answer.text
