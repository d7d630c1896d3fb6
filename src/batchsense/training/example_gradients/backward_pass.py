"""One backward pass: gradients arrive use by use, become norms, and all passes make the result."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from batchsense.arrays import Floats
from batchsense.training.example_gradients.contributions import (
    Contribution,
    combined_norms,
    matrix_shape,
    precise,
)
from batchsense.training.example_gradients.norms import Norms
from batchsense.training.example_gradients.recording import (
    Builder,
    ChangedInPlaceError,
    OutputGradient,
    Use,
)

#: By how much the recorded uses may miss a parameter's gradient, relative to its size: well above
#: rounding, far below a use that was not seen. Set by hand; no study chose the values.
_MISSING = 5e-3
_MISSING_IN_HALF_PRECISION = 5e-2

#: The same relative to the gradient of all parameters, below which nothing is looked for: some
#: gradients are zero but for rounding, and nothing is missing from them.
_ROUNDING = 1e-5
_ROUNDING_IN_HALF_PRECISION = 1e-2

#: Passes after which a parameter that was found complete is looked at again: each look costs two
#: products with the gradient and a wait for the device, and finds only models that change.
_PROBE_EVERY = 32


class Pass:
    """What one backward pass has given so far, by index of the parameter, in its own units."""

    def __init__(self) -> None:
        self.announced = 0  #: Examples in the last forward pass before it; 0 if there was none.
        self.examples = 0  #: n; 0 before anything arrived.
        #: Examples in another forward pass of the same loss, if it has not as many; else 0.
        self.other_size = 0
        self.scale = 1.0  #: The factor that the loss was multiplied with.
        self.in_half_precision = False  #: Whether any gradient was.
        self.norms: dict[int, Tensor] = {}  #: Of the examples' gradients; shape (n,).
        self.total_norms: dict[int, Tensor] = {}  #: Of the parameter's gradient.
        self.problems: dict[int, str] = {}  #: Why a parameter has no norms.
        self._arrived: dict[int, list[tuple[Builder, OutputGradient]]] = {}
        self._missing: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def begun(self) -> bool:
        """Whether any parameter's gradient is there."""
        return bool(self.total_norms)

    def take(self, uses: Sequence[Use], output: OutputGradient) -> None:
        """Keep uses of an output until their parameters' gradients are complete."""
        for index, build in uses:
            self._arrived.setdefault(index, []).append((build, output))
        self.in_half_precision |= output.in_half_precision
        if self.examples != output.examples:
            if self.examples:
                self.other_size = output.examples
            else:
                self.examples = output.examples

    def finish(self, index: int, gradient: Tensor, probes: Probes) -> None:
        """Compute a parameter's norms, now that all its uses have arrived."""
        if torch.is_grad_enabled() or torch.is_autocast_enabled(gradient.device.type):
            with torch.no_grad(), torch.autocast(gradient.device.type, enabled=False):
                return self.finish(index, gradient, probes)
        uses = self._arrived.pop(index, None)
        if index in self.total_norms:
            self.problems[index] = (
                "its gradient arrived in parts (two backward calls of one forward pass, or "
                "checkpointing with use_reentrant=True)"
            )
            return None
        self.total_norms[index] = norm(gradient)
        if uses is None or index in self.problems or self.other_size:
            return None
        try:
            built = [build(output) for build, output in uses]
        except ChangedInPlaceError:
            self.problems[index] = "the input of its layer was changed in place after its use"
            return None
        norms = built[0].norms() if len(built) == 1 else combined_norms(built, gradient.shape)
        self.norms[index] = norms
        if probes.due(index, len(uses)):
            half = any([output.in_half_precision for _, output in uses])
            allowed = _MISSING_IN_HALF_PRECISION if half else _MISSING
            missing = probes.missing(gradient, built)
            self._missing[index] = missing, allowed * (norm(gradient) + norm(norms))
        return None

    def forget_arrivals(self) -> None:
        """Drop gradients of a backward pass that did not go on to the parameters."""
        self._arrived.clear()

    def settle(self) -> None:
        """Drop what never got its parameter's gradient and judge what did."""
        self._arrived.clear()
        self.examples = self.examples or self.announced
        if self.examples == 1:
            self.norms = {index: length.view(1) for index, length in self.total_norms.items()}
            self.problems.clear()
            return
        negligible = self._negligible() if self._missing else 0.0
        for index, (missing, allowed) in self._missing.items():
            if float(missing) > max(float(allowed), negligible):
                self.problems.setdefault(
                    index,
                    "what is known of its uses does not add up to its gradient; it is also used "
                    "where no rule sees it, or outside the model's forward",
                )
        self._missing.clear()
        for index in self.total_norms:
            if index not in self.norms:
                self.problems.setdefault(index, "no rule covers how it is used")

    def _negligible(self) -> float:
        """What may be missing of a gradient that is zero but for rounding."""
        squares = [float(length) ** 2 for length in self.total_norms.values()]
        share = _ROUNDING_IN_HALF_PRECISION if self.in_half_precision else _ROUNDING
        return share * math.sqrt(math.fsum(squares))


class Probes:
    """Compares recorded uses with the true gradient along one random direction.

    The examples' gradients must add up to the parameter's. Along ± 1 vectors u and v, uᵀGv costs
    little, and a use that was missed changes it. A parameter is looked at when it is new, when the
    number of its uses is, and now and then.
    """

    def __init__(self) -> None:
        self._signs: dict[tuple[int, int, torch.device], Tensor] = {}
        self._seen: dict[tuple[int, int], int] = {}

    def due(self, index: int, uses: int) -> bool:
        """Whether to look at a parameter that was used so many times."""
        before = self._seen.get((index, uses), 0)
        self._seen[index, uses] = before + 1
        return before % _PROBE_EVERY == 0

    def missing(self, gradient: Tensor, uses: Sequence[Contribution]) -> Tensor:
        """Return |uᵀGv − Σ uᵀgᵢv|, a scalar of about the size of what is missing of G."""
        rows, columns = matrix_shape(gradient.shape)
        left = self._of(0, rows, gradient.device)
        right = self._of(1, columns, gradient.device)
        total = _projected(gradient, left, right)
        found = torch.stack([use.projected(left, right) for use in uses]).sum()
        return (total - found).abs()

    def _of(self, side: int, size: int, device: torch.device) -> Tensor:
        signs = self._signs.get((side, size, device))
        if signs is None:
            generator = torch.Generator().manual_seed(2 * size + side)
            drawn = torch.randint(0, 2, (size,), generator=generator)
            signs = (2.0 * drawn - 1).to(device)
            self._signs[side, size, device] = signs
        return signs


def assembled(
    passes: Sequence[Pass],
    kept: Sequence[int],
    names: tuple[str, ...],
    *,
    reduction: str,
    sums: Mapping[int, Tensor] | None,
    covered: float,
    refused: Mapping[str, str],
) -> Norms:
    """Put settled passes together, in the units of the examples' own losses.

    ``kept`` are indices of the parameters that every pass measured, ``names`` their names, and
    ``sums`` the sums of the gradients of all examples by index, if they were kept.
    """
    several = len(passes) > 1
    parts = []
    for one in passes:
        own = (one.examples if reduction == "mean" else 1.0) / one.scale
        parts.append(_scaled_squares(_to_numpy(one.norms, kept, one.examples), own))
    sizes = tuple([one.examples for one in passes])
    mean: Floats | None = None
    if not several:
        of_mean = (1.0 if reduction == "mean" else 1.0 / sizes[0]) / passes[0].scale
        mean = _scaled_squares(_to_numpy(passes[0].total_norms, kept), of_mean)
    elif sums is not None:
        lengths = {index: norm(gradient) for index, gradient in sums.items()}
        mean = (_to_numpy(lengths, kept) / sum(sizes)) ** 2
    return Norms(
        parameters=names,
        parts=np.concatenate(parts, axis=1) if several else parts[0],
        mean_parts=mean,
        sizes=sizes,
        covered=covered,
        refused=refused,
    )


def _scaled_squares(norms: Floats, factor: float) -> Floats:
    norms *= factor
    norms *= norms
    return norms


def _to_numpy(values: Mapping[int, Tensor], wanted: Sequence[int], *shape: int) -> Floats:
    """Bring tensors to the CPU, one transfer for each device, as float64; 0 where there is none."""
    rows: dict[torch.device, list[int]] = {}
    for row, index in enumerate(wanted):
        if index in values:
            rows.setdefault(values[index].device, []).append(row)
    found: Floats = np.zeros((len(wanted), *shape))
    for there in rows.values():
        stacked = torch.stack([values[wanted[row]] for row in there]).cpu().numpy()
        if len(there) == len(wanted):
            return stacked.astype(np.float64)
        found[there] = stacked
    return found


def norm(gradient: Tensor) -> Tensor:
    """Return the norm of one gradient, dense or sparse, as a scalar."""
    if gradient.is_sparse:
        gradient = gradient.coalesce().values()
    length: Tensor = torch.linalg.vector_norm(precise(gradient))
    return length


def _projected(gradient: Tensor, left: Tensor, right: Tensor) -> Tensor:
    if gradient.is_sparse:
        table = gradient.coalesce()
        rows = table.values() @ right.to(gradient.dtype)
        return (rows * left.to(gradient.dtype)[table.indices()[0]]).sum()
    matrix = precise(gradient).reshape(len(left), len(right))
    return left.to(matrix.dtype) @ (matrix @ right.to(matrix.dtype))
