"""How much of a true effect is left after correction, by how unevenly it lies in the batches.

Forty specimens in two batches; half are treated, in shares that make R²(treatment ~ batch) 0, .25,
.64 and .81. A treatment adds exactly 1 to every feature, batches shift and rescale at random, and
the rest is normal noise. Reported is the mean over features of treated minus untreated after each
correction, with its standard error; after centring each batch the law says 1 − R².

    python benchmarks/attenuation.py [-o benchmarks/results/attenuation.json]
"""

from __future__ import annotations

import time

import numpy as np
from common.record import options, write

from batchsense.experiments import CombatCorrection, Correction, LinearCorrection, Table

FEATURES, EACH = 20_000, 20
#: Treated specimens in the first batch, of twenty, for each R².
TREATED = {0.0: 10, 0.25: 15, 0.64: 18, 0.81: 19}
CORRECTIONS: dict[str, Correction] = {
    "centring, nothing kept": LinearCorrection(),
    "linear, treatment kept": LinearCorrection(keep=("drug",)),
    "ComBat, nothing kept": CombatCorrection(),
    "ComBat, treatment kept": CombatCorrection(keep=("drug",)),
}


def simulated(treated: int, seed: list[int]) -> tuple[Table, np.ndarray]:
    """Make a table whose every feature has a true effect of 1."""
    rng = np.random.default_rng(seed)
    month = np.repeat([0, 1], EACH)
    drug = np.concatenate([np.arange(EACH) < treated, np.arange(EACH) >= treated])
    noise = rng.normal(size=(2 * EACH, FEATURES)) * np.exp(rng.normal(0, 0.2, (2, FEATURES)))[month]
    values = noise + rng.normal(size=(2, FEATURES))[month] + drug[:, None]
    sheet = {"month": np.where(month, "July", "May"), "drug": np.where(drug, "yes", "no")}
    return Table.from_arrays(values, sheet), drug


def main() -> None:
    chosen = options(__doc__ or "", "attenuation").parse_args()
    began, cpu, rows = time.time(), time.process_time(), []
    for number, (squared, treated) in enumerate(TREATED.items()):
        table, drug = simulated(treated, [chosen.seed, number])
        row = {"r_squared": squared, "law": 1 - squared}
        for name, correction in CORRECTIONS.items():
            values = correction.fit(table, "month").transform(table).values
            effects = values[drug].mean(axis=0) - values[~drug].mean(axis=0)
            error = float(effects.std(ddof=1) / np.sqrt(FEATURES))
            row[name] = {"effect": float(effects.mean()), "standard_error": error}
        rows.append(row)
        print(row, flush=True)
    write(
        chosen.output,
        chosen.seed,
        began,
        time.process_time() - cpu,
        features=FEATURES,
        true_effect=1.0,
        rows=rows,
    )


if __name__ == "__main__":
    main()
