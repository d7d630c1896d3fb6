"""Scene: specimens measured in May and in July, on a table whose truth is known."""

from __future__ import annotations

import numpy as np

from batchsense.arrays import Floats
from batchsense.experiments import PlantedEffects, Table, diagnose, plant, testing
from batchsense.experiments.statistics.multiplicity import benjamini_hochberg
from batchsense.questions.demo.confounded import refusal_of
from batchsense.questions.demo.result import MonthsResult
from batchsense.reports.envelope import Estimate

#: As many as a small study has; the drug moves one gene in ten, the month all of them.
SPECIMENS, GENES = 40, 300
EFFECTS = PlantedEffects(drug_sd=2.0, drug_share=0.1, month_sd=2.0)
#: Treated part of May, untreated part of July; the part of its calls that a test may have wrong.
TREATED, FALSE = 0.25, 0.05


def may_and_july(seed: int) -> MonthsResult:
    """Diagnose the months, test with and without them, and ask for the impossible."""
    from scipy.stats import ttest_ind

    table, effect = _measured(TREATED, seed)
    found = diagnose(table, "month", ["drug"], seed=seed)
    assert found.batch_share is not None
    treated = np.array(table.sheet["drug"]) == "yes"
    alone = ttest_ind(table.values[treated], table.values[~treated]).pvalue
    modelled = testing.test(table, "drug", "month").effects[0].p_value
    called = np.array([benjamini_hochberg(p) <= FALSE for p in (alone, modelled)])
    return MonthsResult(
        specimens=SPECIMENS,
        genes=GENES,
        moved=int((effect != 0).sum()),
        share=Estimate.of(found.batch_share.share),
        p_value=found.batch_share.null.p_value,
        false_discovery=FALSE,
        called=called.sum(axis=1).tolist(),
        wrong=called[:, effect == 0].sum(axis=1).tolist(),
        effective_specimens=found.kept[0].entanglement.confounding.effective_n,
        refusal=refusal_of(_measured(0.0, seed)[0], "month", "drug"),
    )


def _measured(treated: float, seed: int) -> tuple[Table, Floats]:
    planted = plant(SPECIMENS, GENES, 2, treated, EFFECTS, seed=seed)
    month = ["May" if one == "m0" else "July" for one in planted.table.sheet["month"]]
    sheet = {"month": month, "drug": planted.table.sheet["drug"]}
    return Table.from_arrays(planted.table.values, sheet), planted.drug_effect
