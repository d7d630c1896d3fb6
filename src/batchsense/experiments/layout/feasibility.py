"""An exact search for a layout that keeps all constraints, which can prove that there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from batchsense.arrays import Floats, Integers
from batchsense.experiments.layout.constraints import FREE, Constraints

Relaxed = Literal["capacity", "apart", "lock"]
#: Seconds that the solver may take for one question: as long as a person waits for an answer that
#: is worth a proof; up to four are asked.
LIMIT_S = 20.0


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """What the exact search found."""

    codes: Integers | None  #: (units,): A layout that keeps all constraints, if one was found
    impossible: bool  #: Whether it was proved that there is none


def exact_search(constraints: Constraints, limit_s: float = LIMIT_S) -> Search:
    """Find a layout by integer programming, or prove that none exists.

    x[u, b] in {0, 1}; Σ_b x[u, b] = 1; Σ_u size_u x[u, b] ≤ capacity_b; Σ_{u with label l}
    x[u, b] ≤ 1; x[u, locked_u] = 1. Balance plays no part. Both answers of the solver (branch and
    bound with the HiGHS library) are exact; within ``limit_s`` it may give neither.

    Source: Huangfu and Hall (2018), Math. Program. Comput. 10, 119 (HiGHS).
    """
    status, solution = _solve(constraints, None, limit_s)
    if solution is not None:
        shape = (len(constraints.sizes), constraints.batch_count)
        codes = solution[: shape[0] * shape[1]].reshape(shape).argmax(axis=1)
        return Search(codes.astype(np.int64), False)
    return Search(None, status == _INFEASIBLE)


def remedies(constraints: Constraints, limit_s: float = LIMIT_S) -> dict[Relaxed, int]:
    """Say by how much one kind of constraint would have to give way, the others kept."""
    found: dict[Relaxed, int] = {}
    kinds: list[Relaxed] = ["capacity"]
    if constraints.apart.any():
        kinds.append("apart")
    if (constraints.locked != FREE).any():
        kinds.append("lock")
    for kind in kinds:
        _, solution = _solve(constraints, kind, limit_s)
        if solution is not None:
            found[kind] = round(_given_way(constraints, kind, solution))
    return found


_INFEASIBLE = 2  # scipy.optimize.milp's status


def _given_way(constraints: Constraints, kind: Relaxed, solution: Floats) -> float:
    units, batch_count = len(constraints.sizes), constraints.batch_count
    chosen = solution[: units * batch_count].reshape(units, batch_count).argmax(axis=1)
    codes = chosen.astype(np.int64)
    if kind == "capacity":
        held = np.bincount(codes, weights=constraints.sizes, minlength=batch_count)
        return float(np.maximum(held - constraints.capacities, 0).sum())
    if kind == "apart":
        return float(np.maximum(constraints.meetings(codes) - 1, 0).sum())
    placed = constraints.locked != FREE
    return float((codes[placed] != constraints.locked[placed]).sum())


def _solve(
    constraints: Constraints, relaxed: Relaxed | None, limit_s: float
) -> tuple[int, Floats | None]:
    """Solve, one kind of constraint possibly made elastic at a price; give status and solution."""
    from scipy import optimize, sparse

    units, batch_count = len(constraints.sizes), constraints.batch_count
    labels = constraints.apart.shape[1]
    variables = units * batch_count
    slack = {"capacity": batch_count, "apart": batch_count * labels}.get(relaxed or "", 0)
    cost = np.concatenate([np.zeros(variables), np.ones(slack)])
    low = np.zeros(variables + slack)
    high = np.concatenate([np.ones(variables), np.full(slack, np.inf)])
    placed = np.flatnonzero(constraints.locked != FREE)
    own = placed * batch_count + constraints.locked[placed]
    if relaxed == "lock":
        # Leaving its batch costs a locked unit one.
        for unit in placed:
            cost[unit * batch_count : (unit + 1) * batch_count] = 1.0
        cost[own] = 0.0
    else:
        low[own] = 1.0
    eye = sparse.eye(batch_count, format="csr")
    once = sparse.kron(sparse.eye(units), np.ones((1, batch_count)), format="csr")
    wells = sparse.kron(constraints.sizes[None, :].astype(float), eye, format="csr")
    meet = sparse.kron(sparse.csr_matrix(constraints.apart.T.astype(float)), eye, format="csr")
    blocks = []
    for name, rows, floor, ceiling in (
        ("once", once, np.ones(units), np.ones(units)),
        ("capacity", wells, -np.inf, constraints.capacities.astype(float)),
        ("apart", meet, -np.inf, np.ones(batch_count * labels)),
    ):
        if rows.shape[0] == 0:
            continue
        both = rows.tocsc()
        if slack:
            none = sparse.csr_matrix((rows.shape[0], slack))
            both = sparse.hstack([rows, -sparse.eye(slack) if name == relaxed else none], "csc")
        blocks.append(optimize.LinearConstraint(both, floor, ceiling))
    answer = optimize.milp(
        cost,
        integrality=np.concatenate([np.ones(variables), np.zeros(slack)]),
        bounds=optimize.Bounds(low, high),
        constraints=blocks,
        options={"time_limit": limit_s, "mip_rel_gap": 0.0},
    )
    # A solution without a proof of optimality would overstate what must give way.
    usable = answer.x is not None and (answer.status == 0 or relaxed is None)
    return int(answer.status), np.asarray(answer.x) if usable else None
