"""Write the simulated experiments for R, and pack what R found; see README.md."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from batchsense.experiments import PlantedEffects, plant

#: Share of treated specimens in every other month: R² of treatment with month 0, .17 and .71.
SHARES = (0.5, 0.75, 0.9)
REPETITIONS = 20


def experiment(share, repetition):
    """Simulate 42 specimens and 2,000 features; a tenth differ by drug, half by month."""
    return plant(
        specimens=42,
        features=2000,
        months=3,
        treated_share=share,
        effects=PlantedEffects(drug_share=0.1, month_share=0.5),
        seed=1000 * SHARES.index(share) + repetition,
    )


def write(folder):
    """Write every matrix in R's order."""
    folder.mkdir(parents=True, exist_ok=True)
    for share in SHARES:
        for repetition in range(REPETITIONS):
            table = experiment(share, repetition).table
            name = f"s{round(100 * share)}_{repetition:02d}"
            table.values.astype("<f8").tofile(folder / f"{name}.f64")
            treated = [str(int(label == "yes")) for label in table.sheet["drug"]]
            (folder / f"{name}.group").write_text("\n".join(treated) + "\n")


def pack(folder):
    """Gather R's surrogates: arrays of shape (shares, repetitions, specimens, 2)."""
    shape = (len(SHARES), REPETITIONS)
    found = {
        "counts": np.zeros(shape, dtype=np.int16),
        "irw": np.full((*shape, 42, 2), np.nan),
        "two_step": np.full((*shape, 42, 2), np.nan),
    }
    for i, share in enumerate(SHARES):
        for j in range(REPETITIONS):
            name = folder / f"s{round(100 * share)}_{j:02d}"
            counts = np.fromfile(f"{name}.count")
            found["counts"][i, j] = counts[0]
            for key, suffix, columns in (("irw", "irw", counts[1]), ("two_step", "two", counts[2])):
                if columns:
                    values = np.fromfile(f"{name}.{suffix}").reshape(int(columns), 42).T
                    found[key][i, j, :, : int(columns)] = values
    np.savez_compressed(Path(__file__).parent / "simulation.npz", **found)


def bladder(folder):
    """Gather what R found on the bladder data."""
    np.savez_compressed(
        Path(__file__).parent / "bladder.npz",
        count=np.fromfile(folder / "bladder.count").astype(int)[0],
        irw=np.fromfile(folder / "bladder.irw").reshape(-1, 57).T,
        posteriors=np.fromfile(folder / "bladder.pprob").reshape(2, -1).T,
        two_step=np.fromfile(folder / "bladder.two").reshape(-1, 57).T,
    )


if __name__ == "__main__":
    {"write": write, "pack": pack, "bladder": bladder}[sys.argv[1]](Path(sys.argv[2]))
