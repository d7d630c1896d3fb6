"""Make mixing.npz: LISI and kBET of three embeddings, as harmonypy and scib-metrics give them.

Neither package is needed to run the tests. harmonypy (GPL) was only run, never read. Run as

    pip install --target libs harmonypy scib-metrics jax chex
    PYTHONPATH=libs python reference.py
"""

import sys
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pandas as pd


def embeddings() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Three clouds: mixed, one batch shifted, and uneven batches on rings."""
    rng = np.random.default_rng(2019)
    codes = np.repeat([0, 1, 2], [70, 70, 60])
    mixed = rng.normal(size=(200, 5))
    shifted = mixed + 1.5 * (codes == 1)[:, None]
    angle = rng.uniform(0, 2 * np.pi, size=200)
    uneven = (rng.random(200) < 0.2).astype(int)
    radius = 40 + 8 * uneven + 5 * rng.normal(size=200)
    rings = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
    return {"mixed": (mixed, codes), "shifted": (shifted, codes), "rings": (rings, uneven)}


SIZE = 20  # of a neighbourhood of kBET


def main() -> None:
    """Run both packages; here, so that a look at this file needs none of them."""
    import jax
    from harmonypy.lisi import compute_lisi
    from sklearn.neighbors import NearestNeighbors

    jax.config.update("jax_enable_x64", True)  # else scib-metrics has 7 digits
    # What other metrics need, and these do not.
    others = ("umap", "umap.umap_", "pynndescent", "igraph", "anndata", "plottable", "leidenalg")
    for other in others:
        sys.modules.setdefault(other, MagicMock())
    from scib_metrics.metrics._kbet import kbet
    from scib_metrics.metrics._lisi import lisi_knn
    from scib_metrics.nearest_neighbors import NeighborsResults

    stored = {}
    for name, (points, codes) in embeddings().items():
        sheet = pd.DataFrame({"batch": codes.astype(str)})
        harmony = np.asarray(compute_lisi(points, sheet, ["batch"], perplexity=30))[:, 0]
        distances, found = NearestNeighbors(n_neighbors=90).fit(points).kneighbors(points)
        neighbours = NeighborsResults(indices=found, distances=distances)
        few = NeighborsResults(indices=found[:, :SIZE], distances=distances[:, :SIZE])
        stored[f"{name}_points"], stored[f"{name}_codes"] = points, codes
        stored[f"{name}_harmonypy"] = harmony
        stored[f"{name}_scib"] = np.asarray(lisi_knn(neighbours, codes))
        stored[f"{name}_kbet"] = np.asarray(kbet(few, codes)[2])
    np.savez_compressed(Path(__file__).with_name("mixing.npz"), **stored)


if __name__ == "__main__":
    main()
