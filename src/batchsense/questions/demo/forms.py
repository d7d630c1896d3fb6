"""Scene: the form on which a row was written, a batch that nobody wrote down."""

from __future__ import annotations

from batchsense.datasets import load_digits
from batchsense.experiments import ShuffledFolds, batch_gap
from batchsense.experiments.diagnosis.crossed import two_factor_shares
from batchsense.experiments.statistics.confounding import cramers_v
from batchsense.progress import Progress, silent
from batchsense.questions.demo.result import (
    ClassifierResult,
    FormErrors,
    FormsResult,
    ShareResult,
)
from batchsense.reports.envelope import Estimate

#: How often the shuffled folds are drawn anew; more narrow only their side of the comparison.
REPEATS = 3
#: Shuffles behind the null of the shares: the smallest p that they can give is 1/201.
PERMUTATIONS = 200


def compare_folds(seed: int, progress: Progress = silent) -> list[ClassifierResult]:
    """Test two classifiers on shuffled folds and on forms left out."""
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    digits = load_digits()
    models = {
        "support vector machine": SVC(gamma=0.001),
        "nearest neighbour": KNeighborsClassifier(1),
    }
    results = []
    for name, model in models.items():
        gap = batch_gap(
            model,
            digits.observations,
            digits.digit,
            digits.form_labels,
            ShuffledFolds(REPEATS, seed),
            progress=progress,
        )
        # Both classifiers make errors in either way of testing, on these built-in rows.
        assert gap.ratio is not None
        results.append(
            ClassifierResult.like(
                gap,
                model=name,
                left_out=Estimate.of(gap.held_out),
                forms_worse=gap.worse,
                forms_equal=len(gap.by_batch) - gap.worse - gap.better,
                forms_better=gap.better,
                by_form=[
                    FormErrors(form=str(form), shuffled=float(both[0]), left_out=float(both[1]))
                    for form, both in zip(gap.batch_labels, gap.by_batch, strict=True)
                ],
            )
        )
    return results


def share_variation(seed: int, progress: Progress = silent) -> FormsResult:
    """Share out the variation of all pixels between digit and form."""
    digits = load_digits()
    found = two_factor_shares(
        digits.observations,
        digits.digit,
        digits.form_labels,
        permutations=PERMUTATIONS,
        seed=seed,
        progress=progress,
    )
    random = found.random
    # Replicates in every cell make the components estimable; these are the built-in rows.
    assert random is not None
    terms = (
        ("digit", found.first, random.first),
        ("form", found.second, random.second),
        ("form × digit", found.interaction, random.interaction),
        ("within", found.within, random.within),
    )
    return FormsResult(
        cramers_v=cramers_v(digits.form_labels, digits.digit),
        permutations=found.permutations,
        shares=[
            ShareResult.like(share, term=name, random_effects_share=Estimate.of(component))
            for name, share, component in terms
        ],
    )
