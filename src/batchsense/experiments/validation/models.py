"""The models that can be asked for by name: plain ones, with all that learns inside the folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from batchsense.errors import DataError, listed

Kind = Literal["categorical", "numeric"]
#: Trees of a forest: the default of scikit-learn.
TREES = 100
#: Neighbours that are asked about a number: the default of scikit-learn. About a class only the
#: nearest one is asked, which takes most notice of batches.
NEIGHBOURS = 5


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model and what it can predict."""

    name: str  #: As it is asked for
    predicts: tuple[Kind, ...]  #: ``"categorical"``, ``"numeric"`` or both
    #: Whether features are always given the same weight, for the penalty treats them alike.
    scaled: bool = False


@dataclass(frozen=True, slots=True)
class PlainModel:
    """A model by its name, and what it is given inside the folds.

    Attributes
    ----------
    name : {"nearest", "logistic", "ridge", "forest"}, optional
        By default the nearest neighbour for classes, ridge regression for numbers.
    corrections : sequence of str
        What is tried besides no correction: ``"linear"``, ``"combat"``, both or neither.
    standardise : bool
        Give every feature the same weight; logistic and ridge regression always do.
    """

    name: str | None = None
    corrections: Sequence[str] = ("linear",)
    standardise: bool = False


MODELS = {
    model.name: model
    for model in (
        NamedModel("nearest", ("categorical", "numeric")),
        NamedModel("logistic", ("categorical",), scaled=True),
        NamedModel("ridge", ("numeric",), scaled=True),
        NamedModel("forest", ("categorical", "numeric")),
    )
}
#: The corrections that can stand before a model.
CORRECTIONS = ("none", "linear", "combat")


def make_model(
    name: str,
    kind: Kind,
    correction: str = "none",
    *,
    fill: bool = False,
    standardise: bool = False,
    seed: int = 0,
) -> Any:
    """Make a pipeline that does everything inside the fold: correct, fill, scale, predict."""
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    from batchsense.experiments.correction.estimator import BatchCorrector

    _check(name, kind, correction)
    steps: list[tuple[str, Any]] = []
    if correction != "none":
        steps.append(("correct", BatchCorrector(correction, unseen="estimate")))  # type: ignore[arg-type]
    if fill:
        # A feature without any value in training must not vanish, or the test rows would not fit.
        steps.append(("fill", SimpleImputer(strategy="median", keep_empty_features=True)))
    if standardise or MODELS[name].scaled:
        steps.append(("scale", StandardScaler()))
    return Pipeline([*steps, ("model", _estimator(name, kind, seed))])


def guessing(kind: Kind) -> Any:
    """A model that looks at no feature: the commonest class, or the mean."""
    from sklearn.dummy import DummyClassifier, DummyRegressor

    return DummyClassifier(strategy="most_frequent") if kind == "categorical" else DummyRegressor()


def _check(name: str, kind: Kind, correction: str) -> None:
    if name not in MODELS:
        raise DataError(f"no model {name!r}; there are {listed(MODELS)}")
    if correction not in CORRECTIONS:
        raise DataError(f"no correction {correction!r}; there are {listed(CORRECTIONS)}")
    if kind not in MODELS[name].predicts:
        fitting = [model.name for model in MODELS.values() if kind in model.predicts]
        can, asked = ("classes", "numbers") if kind == "numeric" else ("numbers", "classes")
        raise DataError(f"{name} predicts {can}; for {asked} there are {listed(fitting)}")


def _estimator(name: str, kind: Kind, seed: int) -> Any:
    import numpy as np
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    if name == "logistic":
        return LogisticRegression(max_iter=1000)
    if name == "ridge":
        return RidgeCV(alphas=np.logspace(-2, 5, 15))
    if name == "forest":
        make = RandomForestClassifier if kind == "categorical" else RandomForestRegressor
        return make(TREES, random_state=seed)
    return KNeighborsClassifier(1) if kind == "categorical" else KNeighborsRegressor(NEIGHBOURS)
