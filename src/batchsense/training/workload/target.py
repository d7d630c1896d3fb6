"""TARGET: the name of a workload on the command line."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from batchsense.blame import described
from batchsense.errors import BatchsenseError, DataError, listed
from batchsense.training.workload.built_in import BUILT_IN
from batchsense.training.workload.workload import Workload


def load_target(target: str) -> Workload:
    """Make the workload that a TARGET names.

    Parameters
    ----------
    target : str
        ``digits``, ``charlm``, ``path/to/file.py:function`` or ``package.module:function``; the
        function takes no argument and returns a :class:`Workload`. **It is run**: name only files
        that you trust.

    Returns
    -------
    Workload
        The training job.

    Raises
    ------
    DataError
        Unknown name, no such file or function, or the function raises or returns something else;
        says where.

    Examples
    --------
    >>> len(load_target("digits").examples)
    1797
    >>> load_target("digit")
    Traceback (most recent call last):
    batchsense.errors.DataError: digit: no such workload; did you mean 'digits'?
    """
    if target in BUILT_IN:
        return BUILT_IN[target]()
    module_name, colon, function_name = target.rpartition(":")
    if not colon:
        raise DataError(_what_it_could_be(target), where=target)
    if not function_name.isidentifier():
        raise DataError(f"{function_name!r} is not the name of a function", where=target)
    is_file = module_name.endswith(".py") or "/" in module_name or "\\" in module_name
    with _importable_from(str(Path(module_name).resolve().parent) if is_file else ""):
        module = _run_file(module_name) if is_file else _import_module(module_name)
        return _call(module, function_name, target)


def _what_it_could_be(target: str) -> str:
    if target.endswith(".py"):
        return f"say which function of the file returns the Workload: {target}:FUNCTION"
    near = difflib.get_close_matches(target, list(BUILT_IN), n=1)
    if near:
        return f"no such workload; did you mean {near[0]!r}?"
    names = ", ".join(BUILT_IN)
    return f"no such workload; give {names}, path.py:function or module:function"


@contextlib.contextmanager
def _importable_from(folder: str) -> Iterator[None]:
    """Let imports find the modules beside a file, as when it is run as a script."""
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


def _run_file(path: str) -> ModuleType:
    """Execute a file as a module of its own."""
    file = Path(path)
    if not file.is_file():
        raise DataError("no such file", where=path)
    name = f"batchsense_target_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file.resolve())
    if spec is None or spec.loader is None:
        raise DataError("not a Python file; its name must end with .py", where=path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look their module up by name
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise DataError(f"the file could not be run: {described(error)}", where=path) from error
    return module


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and name.startswith(error.name or "?"):
            raise DataError(f"no module named {error.name!r}", where=name) from None
        raise DataError(f"the module could not be imported: {described(error)}", name) from error


def _call(module: ModuleType, function_name: str, target: str) -> Workload:
    function = getattr(module, function_name, None)
    if function is None:
        own = [
            name
            for name, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", None) == module.__name__
        ]
        has = f"; it defines {listed(own)}" if own else ""
        raise DataError(f"there is no function {function_name!r}{has}", where=target)
    if isinstance(function, Workload):
        return function
    if not callable(function):
        raise DataError(f"{function_name!r} is not a function", where=target)
    try:
        workload = function()
    except BatchsenseError:
        raise
    except (Exception, SystemExit) as error:
        raise DataError(
            f"{function_name}() raised {described(error)}; it must return a Workload", where=target
        ) from error
    if not isinstance(workload, Workload):
        raise DataError(
            f"{function_name}() returned {type(workload).__name__}; "
            "it must return batchsense.training.Workload(model, loss, examples, optimizer)",
            where=target,
        )
    return workload
