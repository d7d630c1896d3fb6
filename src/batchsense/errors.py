"""The typed errors of batchsense: each says what is wrong, where, and what to do.

An error carries the culprit as an attribute, so that a program can act on it without reading the
text. On the command line :class:`ConfoundedError` and :class:`UnresolvedError` are answers ("no",
exit code 1), and so is :class:`InfeasibleError`, a kind of the latter; :class:`MissingExtraError`
and :class:`OutputError` are matters of usage (2), :class:`DataError` is bad input (3).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

#: How many culprits an error text lists before it says "and N more".
SHOWN_CULPRITS = 10


def listed(culprits: Iterable[object], shown: int = SHOWN_CULPRITS) -> str:
    """Join at most ``shown`` culprits into a phrase and count the rest.

    Examples
    --------
    >>> listed(["a", "b", "c"], shown=2)
    'a, b and 1 more'
    """
    names = [str(culprit) for culprit in culprits]
    rest = len(names) - shown
    phrase = ", ".join(names[:shown])
    return f"{phrase} and {rest} more" if rest > 0 else phrase


class BatchsenseError(Exception):
    """Base of every error that batchsense raises on purpose; another process gets it as it was.

    Examples
    --------
    >>> import pickle
    >>> pickle.loads(pickle.dumps(DataError("the sheet is empty", where="s.csv"))).where
    's.csv'
    """

    #: Whether another process of the same run says it, so that this one need not.
    told: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy what the error says and carries: its arguments are not those it was made with."""
        return _as_it_was, (type(self), self.args, self.__dict__)


def _as_it_was(
    kind: type[BatchsenseError], args: tuple[object, ...], carried: dict[str, object]
) -> BatchsenseError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(carried)
    return error


class DataError(BatchsenseError):
    """The input cannot be used as it is.

    Parameters
    ----------
    message : str
        What is wrong and what to do.
    where : str, optional
        The place: a file, row, column, layer or TARGET.

    Examples
    --------
    >>> raise DataError("the sheet is empty; give one row per specimen", where="sheet.csv")
    Traceback (most recent call last):
    batchsense.errors.DataError: sheet.csv: the sheet is empty; give one row per specimen
    """

    def __init__(self, message: str, where: str | None = None) -> None:
        self.message = message
        self.where = where
        super().__init__(message if where is None else f"{where}: {message}")


class PeerError(DataError):
    """Another process of the same training cannot be reached, is gone, or does not answer.

    Parameters
    ----------
    message : str
        Which process, after how long, and what to do.

    Examples
    --------
    >>> raise PeerError("rank 0 of 2 did not meet the others within 300 s")
    Traceback (most recent call last):
    batchsense.errors.PeerError: rank 0 of 2 did not meet the others within 300 s
    """


class RequestError(BatchsenseError):
    """What is asked for contradicts itself, or lacks something; nothing was read yet.

    Parameters
    ----------
    message : str
        Which options, and what to do.

    Examples
    --------
    >>> raise RequestError("--max 8 is below --min 16")
    Traceback (most recent call last):
    batchsense.errors.RequestError: --max 8 is below --min 16
    """

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


class ConfoundedError(BatchsenseError):
    """Batch and a wanted factor are entangled: the data cannot tell them apart.

    Parameters
    ----------
    message : str
        What is entangled, what can still be estimated and what would help.
    aliased : sequence of str
        The entangled terms, each a relation such as ``"drug[yes] = month[July]"``.

    Examples
    --------
    >>> try:
    ...     raise ConfoundedError("drug cannot be told from month", ["drug[yes] = month[July]"])
    ... except ConfoundedError as error:
    ...     print(error.aliased)
    ('drug[yes] = month[July]',)
    """

    def __init__(self, message: str, aliased: Sequence[str]) -> None:
        self.message = message
        self.aliased = tuple(aliased)
        super().__init__(message)


class UnresolvedError(BatchsenseError):
    """The measurement is not precise enough for an answer yet.

    Parameters
    ----------
    message : str
        What could not be resolved.
    needed : str, optional
        What would resolve it, for example ``"about 4096 more examples"``.

    Examples
    --------
    >>> raise UnresolvedError("the noise scale is unbounded", needed="4096 more examples")
    Traceback (most recent call last):
    batchsense.errors.UnresolvedError: the noise scale is unbounded; needed: 4096 more examples
    """

    def __init__(self, message: str, needed: str | None = None) -> None:
        self.message = message
        self.needed = needed
        super().__init__(message if needed is None else f"{message}; needed: {needed}")


class InfeasibleError(UnresolvedError):
    """What was asked for cannot be had: it is proved that no layout keeps every constraint.

    Parameters
    ----------
    message : str
        Which constraints cannot be met together, and why.
    needed : str, optional
        By how much they would have to give way, for example ``"3 more wells"``.

    Examples
    --------
    >>> raise InfeasibleError("30 specimens do not fit 4 batches of 7", needed="2 more wells")
    Traceback (most recent call last):
    batchsense.errors.InfeasibleError: 30 specimens do not fit 4 batches of 7; needed: 2 more wells
    """


class OutputError(BatchsenseError):
    """A result may not be written where it was asked for: something would be lost.

    Parameters
    ----------
    message : str
        What is wrong and what to do; follows the name of the output.
    path : path
        The output.
    option : str, optional
        The option that names it.

    Examples
    --------
    >>> raise OutputError("exists; give another name or --force to replace it", "r.csv", "-o")
    Traceback (most recent call last):
    batchsense.errors.OutputError: -o r.csv exists; give another name or --force to replace it
    """

    def __init__(self, message: str, path: str | Path, option: str | None = None) -> None:
        self.message = message
        self.path = str(path)
        self.option = option
        shown = self.path if self.path.strip() and self.path.isprintable() else repr(self.path)
        super().__init__(" ".join([*([option] if option else []), shown, message]))


#: What each extra brings, by the names that are imported.
_EXTRAS = {
    "training": ("torch",),
    "collocation": ("deepxde",),
    "experiments": (
        "anndata", "dask", "distributed", "h5py", "numba", "openpyxl", "pyarrow", "zarr",
    ),
    "hf": ("accelerate", "transformers"),
    "lightning": ("lightning",),
    "web": ("multipart", "python_multipart", "starlette", "uvicorn"),
}  # fmt: skip


class MissingExtraError(BatchsenseError, ImportError):
    """An optional dependency is not installed.

    Parameters
    ----------
    purpose : str
        What needs it, for example ``"AnnData files"``.
    extra : str
        The extra that brings it.

    Examples
    --------
    >>> print(MissingExtraError("AnnData files", "experiments"))
    AnnData files need the experiments extra: pip install 'batchsense[experiments]'
    """

    def __init__(self, purpose: str, extra: str) -> None:
        self.extra = extra
        self.message = f"{purpose} need the {extra} extra: pip install 'batchsense[{extra}]'"
        super().__init__(self.message)

    @classmethod
    def of(cls, error: ImportError, purpose: str) -> MissingExtraError | None:
        """What an import lacks, if that is a package of an extra.

        Examples
        --------
        >>> lacking = ModuleNotFoundError("No module named 'torch'", name="torch")
        >>> print(MissingExtraError.of(lacking, "The scenes of the demo"))
        The scenes of the demo need the training extra: pip install 'batchsense[training]'
        """
        package = (error.name or "").partition(".")[0]
        extra = next((name for name, brought in _EXTRAS.items() if package in brought), None)
        return None if extra is None else cls(purpose, extra)
