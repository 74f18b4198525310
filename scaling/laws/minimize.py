"""Many minimisations of one law at once, in float64, with exact gradients and Hessians.

Takes tasks (a starting point, targets and row weights each) and gives a minimum for each. All run
in one compiled program of a fixed number of slots; when tasks end, their slots take the next ones,
so that 30 starts, 4,000 bootstrap resamples and 100,000 rows share the same few compilations.
Each task is a damped Newton iteration with bounds; for nearly absolute losses (a Huber delta far
below the residuals) the delta is lowered step by step. Called by `fitting.py` and `uncertainty.py`.
"""

import concurrent.futures
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling.laws.law import Law

SLOTS = (16, 128)  # of the program for a few tasks, and of that for many
TOLERANCE = 1e-13  # of the objective: the decrease that the quadratic model still promises
LONGEST = 2.0  # longest step in one coordinate (most are logarithms)


@dataclass(frozen=True)
class Problem:
    """One law on one table: what all tasks share. Arrays are NumPy, float64."""

    law: Law
    free: tuple[str, ...]  # parameters that are fitted, in the order of the coordinates
    given: Mapping[str, float]  # those that are not, and the law's constants, natural scale
    columns: Mapping[str, np.ndarray]  # [rows] (or [rows, ...]) each
    target: np.ndarray  # [rows]: log loss, or loss when space is linear
    weight: np.ndarray  # [rows]
    space: str = "log"
    delta: float = 1e-3  # of the Huber loss, in units of the residual; inf: least squares
    tilt: float = 0.5  # quantile that an asymmetric loss aims at; 0.5: symmetric

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the coordinates [free]."""
        low, high = zip(*(self.law[n].bounds() for n in self.free), strict=True)
        return np.array(low), np.array(high)

    def coordinates(self, values: np.ndarray) -> np.ndarray:
        """Natural scale [..., free] -> coordinates."""
        return np.stack(
            [self.law[n].coordinate(values[..., i]) for i, n in enumerate(self.free)], -1
        )

    def values(self, coordinates: np.ndarray) -> np.ndarray:
        """Coordinates [..., free] -> natural scale."""
        return np.stack(
            [self.law[n].value(coordinates[..., i]) for i, n in enumerate(self.free)], -1
        )


@dataclass(frozen=True)
class Minima:
    """What came of each task."""

    coordinates: np.ndarray  # [tasks, free]
    objective: np.ndarray  # [tasks]: sum of weight * Huber, unscaled
    gradient: np.ndarray  # [tasks, free], of the objective
    hessian: np.ndarray  # [tasks, free, free]
    iterations: np.ndarray  # [tasks]
    converged: np.ndarray  # [tasks], bool


class _Slots(NamedTuple):
    """State of the slots; the leading axis of every field is the slot."""

    at: Any  # coordinates [slots, free]
    value: Any  # objective there
    gradient: Any
    hessian: Any
    damping: Any
    delta: Any  # now; falls to goal
    goal: Any
    fresh: Any  # bool: nothing is known at `at` yet, take the next point as it is
    done: Any
    converged: Any
    iterations: Any


def huber(residual: Any, delta: Any, tilt: Any) -> Any:
    """Huber loss, r^2 / 2 within delta and delta (|r| - delta / 2) beyond; `tilt` q weighs
    positive residuals by 2 (1 - q) and negative ones by 2 q.
    """
    size = jnp.abs(residual)
    inner = jnp.minimum(size, delta)
    side = jnp.where(residual > 0, 2 * (1 - tilt), 2 * tilt)
    return side * inner * (size - 0.5 * inner)


def _predict(law: Law, free: Sequence[str], at: Any, given: Any, columns: Any) -> Any:
    values = {n: law[n].value(at[i]) for i, n in enumerate(free)}
    return law.predict({**given, **values}, columns)


@functools.lru_cache(maxsize=64)
def predictor(law: Law, free: tuple[str, ...]) -> Callable[..., Any]:
    """Compiled: coordinates [draws, free], given, columns -> predictions [draws, rows]."""
    one = functools.partial(_predict, law, free)
    return jax.jit(jax.vmap(one, in_axes=(0, None, None)))


@functools.lru_cache(maxsize=64)
def sensitivities(law: Law, free: tuple[str, ...], space: str) -> Callable[..., Any]:
    """Compiled: coordinates [free], given, columns -> Jacobian of the prediction [rows, free]."""

    def one(at: Any, given: Any, columns: Any) -> Any:
        predicted = _predict(law, free, at, given, columns)
        return jnp.log(predicted) if space == "log" else predicted

    return jax.jit(jax.jacfwd(one))


def _where(chosen: Any, new: _Slots, old: _Slots) -> _Slots:
    """Slot by slot, the new state or the old one."""

    def one(a: Any, b: Any) -> Any:
        return jnp.where(chosen.reshape((-1,) + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(one, new, old)


@functools.lru_cache(maxsize=64)
def _program(law: Law, free: tuple[str, ...], space: str) -> Callable[..., _Slots]:
    count = len(free)

    def objective(at, target, weight, delta, tilt, given, columns):
        predicted = _predict(law, free, at, given, columns)
        residual = (jnp.log(predicted) if space == "log" else predicted) - target
        return jnp.sum(weight * huber(residual, delta, tilt))

    def with_gradient(at, *rest):
        value, gradient = jax.value_and_grad(objective)(at, *rest)
        return gradient, (value, gradient)

    second = jax.vmap(
        jax.jacfwd(with_gradient, has_aux=True), in_axes=(0, 0, 0, 0, None, None, None)
    )

    def solve(matrix: Any, vector: Any) -> Any:
        """LDL' with pivots made positive: always a descent direction. Entries are [slots]."""
        lower: list[list[Any]] = [[None] * count for _ in range(count)]
        pivot: list[Any] = []
        for j in range(count):
            p = matrix[j][j] - sum(lower[j][k] ** 2 * pivot[k] for k in range(j))
            pivot.append(jnp.maximum(jnp.abs(p), 1e-10))
            for i in range(j + 1, count):
                rest = sum(lower[i][k] * lower[j][k] * pivot[k] for k in range(j))
                lower[i][j] = (matrix[i][j] - rest) / pivot[j]
        half: list[Any] = []
        for i in range(count):
            half.append(vector[i] - sum(lower[i][k] * half[k] for k in range(i)))
        out: list[Any] = [None] * count
        for i in reversed(range(count)):
            later = sum(lower[k][i] * out[k] for k in range(i + 1, count))
            out[i] = half[i] / pivot[i] - later
        return jnp.stack(out, -1)

    def propose(s: _Slots, low: Any, high: Any) -> Any:
        held = ((s.at <= low) & (s.gradient > 0)) | ((s.at >= high) & (s.gradient < 0))
        held = held | (low == high)
        diagonal = jnp.abs(jnp.diagonal(s.hessian, axis1=1, axis2=2))
        largest = jnp.max(diagonal, axis=1, keepdims=True)
        scale = jnp.sqrt(jnp.maximum(diagonal, 1e-14 * largest + 1e-300))
        gradient = jnp.where(held, 0.0, s.gradient / scale)

        def entry(i: int, j: int) -> Any:
            scaled = s.hessian[:, i, j] / (scale[:, i] * scale[:, j])
            if i == j:
                return jnp.where(held[:, i], 1.0, scaled + s.damping)
            return jnp.where(held[:, i] | held[:, j], 0.0, scaled)

        matrix = [[entry(i, j) for j in range(count)] for i in range(count)]
        step = -solve(matrix, [gradient[:, i] for i in range(count)]) / scale
        longest = jnp.max(jnp.abs(step), axis=1, keepdims=True)
        step = step * jnp.minimum(1.0, LONGEST / jnp.maximum(longest, 1e-300))
        step = jnp.where(s.fresh[:, None] & jnp.isinf(s.value)[:, None], 0.0, step)
        return jnp.clip(s.at + step, low, high)

    def iterate(
        s: _Slots, target: Any, weight: Any, low: Any, high: Any, tilt: Any, given: Any,
        columns: Any,
    ) -> _Slots:  # fmt: skip
        trial = propose(s, low, high)
        step = trial - s.at
        curved = jnp.einsum("sij,sj->si", s.hessian, step)
        promised = -jnp.sum(step * (s.gradient + 0.5 * curved), axis=1)
        hessian, (value, gradient) = second(trial, target, weight, s.delta, tilt, given, columns)
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(hessian), axis=(1, 2))
        gained = s.value - value
        small = promised <= TOLERANCE * value + 1e-26 * jnp.sum(weight, axis=1)
        taken = finite & (s.fresh | (gained > 0) | (small & (gained >= -1e-12 * s.value)))
        ratio = jnp.where(s.fresh, 0.5, gained / jnp.maximum(promised, 1e-300))
        eased = jnp.where(s.damping < 1e-5, 0.0, 0.1 * s.damping)
        damping = jnp.where(ratio > 0.7, eased, jnp.where(ratio > 0.2, s.damping, 4 * s.damping))
        damping = jnp.where(taken, damping, 8 * jnp.maximum(s.damping, 1e-3))
        # Nearly a minimum at this delta: lower it, and take the next point as it comes.
        near = taken & ~s.fresh & (promised <= 1e-2 * value) & (s.damping <= 0.1)
        lower = near & (s.delta > s.goal)
        ended = ~s.fresh & (s.delta <= s.goal) & small & (s.damping <= 1.0)
        stuck = ~taken & (s.damping > 1e9) & (s.delta <= s.goal)
        escape = ~taken & (s.damping > 1e9) & (s.delta > s.goal)
        delta = jnp.where(lower | escape, jnp.maximum(s.goal, 0.2 * s.delta), s.delta)
        damping = jnp.where(escape, 1e-3, damping)
        new = _where(
            taken, s._replace(at=trial, value=value, gradient=gradient, hessian=hessian), s
        )
        new = new._replace(
            damping=damping, delta=delta, fresh=(s.fresh & ~taken) | lower | escape,
            done=s.done | ended | stuck, converged=s.converged | ended,
            iterations=s.iterations + 1,
        )  # fmt: skip
        return _where(~s.done, new, s)

    @jax.jit
    def run(s, rounds, enough, *shared):
        """At most `rounds` iterations; ends as soon as `enough` slots are done."""

        def go(carry: Any) -> Any:
            return (carry[0] < rounds) & (jnp.sum(carry[1].done) < enough)

        def body(carry: Any) -> Any:
            return carry[0] + 1, iterate(carry[1], *shared)

        return jax.lax.while_loop(go, body, (0, s))[1]

    return run


def padded(rows: int) -> int:
    """Rows that the program is compiled for: the next power of two, at least 16."""
    return max(16, 1 << (rows - 1).bit_length())


def pad(array: np.ndarray, rows: int) -> np.ndarray:
    """The last row repeated up to `rows` (its weight is zero, its values stay finite)."""
    return np.concatenate([array, np.repeat(array[-1:], rows - len(array), axis=0)])


def minimize(
    problem: Problem,
    starts: np.ndarray,
    *,
    targets: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    first_delta: np.ndarray | None = None,
    held: np.ndarray | None = None,
    iterations: int = 200,
    quorum: float = 1.0,
) -> Minima:
    """A local minimum from each start.

    Args:
      problem: law, table and loss.
      starts: coordinates [tasks, free].
      targets: [tasks, rows] when tasks differ in them (residual bootstrap); None: the problem's.
      weights: [tasks, rows] when tasks differ in them (case bootstrap); None: the problem's.
      first_delta: Huber delta at which each task begins [tasks]; None: the problem's.
      held: coordinates that stay where they start [tasks, free], bool; None: none.
      iterations: at most so many a task.
      quorum: share of the tasks after which the others are given up (they come back as not
        converged, where they stand).
    """
    own = (targets, weights, first_delta, held)
    # XLA runs these small programs on one core each, so that shares of the tasks run side by side.
    shares = min(os.cpu_count() or 1, len(starts) // (4 * SLOTS[1]))
    if shares < 2:
        return _minimize(problem, starts, *own, iterations, quorum)
    parts = np.array_split(np.arange(len(starts)), shares)

    def run(part: np.ndarray) -> Minima:
        one, two, three, four = (None if v is None else v[part[0] : part[-1] + 1] for v in own)
        return _minimize(problem, starts[part], one, two, three, four, iterations, quorum)

    with concurrent.futures.ThreadPoolExecutor(shares) as pool:
        done = list(pool.map(run, parts))
    return Minima(*(np.concatenate([vars(d)[name] for d in done]) for name in vars(done[0])))


def _minimize(
    problem: Problem,
    starts: np.ndarray,
    targets: np.ndarray | None,
    weights: np.ndarray | None,
    first_delta: np.ndarray | None,
    held: np.ndarray | None,
    iterations: int,
    quorum: float,
) -> Minima:
    """`minimize` on one core."""
    tasks, count = starts.shape
    rows = padded(len(problem.target))
    slots = min(SLOTS[tasks > SLOTS[0]], max(1, 2**21 // rows))
    if rows > 2**12:
        slots = min(slots, 1 << (tasks - 1).bit_length())
    low, high = problem.bounds()
    starts = np.clip(starts, low, high)
    lows, highs = (np.broadcast_to(b, starts.shape) for b in (low, high))
    if held is not None:
        lows, highs = np.where(held, starts, lows), np.where(held, starts, highs)
    goal = min(problem.delta, 1e12)
    begin = np.full(tasks, goal) if first_delta is None else np.maximum(first_delta, goal)
    program = _program(problem.law, problem.free, problem.space)
    out = Minima(
        starts.copy(), np.full(tasks, np.inf), np.zeros((tasks, count)),
        np.zeros((tasks, count, count)), np.zeros(tasks, int), np.zeros(tasks, bool),
    )  # fmt: skip

    def fresh(which: np.ndarray, s: dict[str, np.ndarray], slot: np.ndarray) -> None:
        s["at"][slot] = starts[which]
        s["value"][slot] = np.inf
        s["gradient"][slot] = 0.0
        s["hessian"][slot] = np.eye(count)
        s["damping"][slot] = 1e-3
        s["delta"][slot] = begin[which]
        s["goal"][slot] = goal
        s["fresh"][slot] = True
        s["done"][slot] = False
        s["converged"][slot] = False
        s["iterations"][slot] = 0
        slot_low[slot], slot_high[slot] = lows[which], highs[which]
        target[slot, :own] = problem.target if targets is None else targets[which]
        weight[slot, :own] = problem.weight if weights is None else weights[which]

    state = {
        "at": np.tile(starts[:1], (slots, 1)), "value": np.zeros(slots),
        "gradient": np.zeros((slots, count)), "hessian": np.tile(np.eye(count), (slots, 1, 1)),
        "damping": np.zeros(slots), "delta": np.ones(slots), "goal": np.ones(slots),
        "fresh": np.zeros(slots, bool), "done": np.ones(slots, bool),
        "converged": np.zeros(slots, bool), "iterations": np.zeros(slots, np.int64),
    }  # fmt: skip
    own = len(problem.target)
    target = np.tile(pad(problem.target, rows)[None], (slots, 1))
    weight = np.zeros((slots, rows))
    slot_low, slot_high = (np.tile(b, (slots, 1)) for b in (low, high))
    owner = np.full(slots, -1)
    waiting, ended = 0, 0
    with jax.enable_x64(True):
        shared = jax.device_put(
            (np.float64(problem.tilt), dict(problem.given),
             {k: pad(np.asarray(v, float), rows) for k, v in problem.columns.items()})
        )  # fmt: skip
        while ended < tasks:
            free_slots = np.flatnonzero(owner < 0)[: tasks - waiting]
            which = np.arange(waiting, waiting + len(free_slots))
            if len(which):
                fresh(which, state, free_slots)
                owner[free_slots] = which
                waiting += len(which)
            idle = int(np.sum(owner < 0))
            more = waiting < tasks
            enough = idle + max(1, slots // 4) if more else slots
            if quorum < 1:
                enough = min(enough, idle + max(1, int(np.ceil(quorum * tasks)) - ended))
            bounds = (slot_low, slot_high)
            result = program(_Slots(**state), iterations, enough, target, weight, *bounds, *shared)
            state = {k: np.array(v) for k, v in result._asdict().items()}
            over = (owner >= 0) & (state["done"] | (state["iterations"] >= iterations))
            if ended + np.sum(over) >= quorum * tasks:
                over = owner >= 0
            mine = owner[over]
            out.coordinates[mine] = state["at"][over]
            out.objective[mine] = state["value"][over]
            out.gradient[mine] = state["gradient"][over]
            out.hessian[mine] = state["hessian"][over]
            out.iterations[mine] = state["iterations"][over]
            out.converged[mine] = state["converged"][over]
            state["done"][over] = True
            owner[over] = -1
            ended += len(mine)
    return out


def predict(problem: Problem, coordinates: np.ndarray, columns: Mapping[str, Any]) -> np.ndarray:
    """Predictions [draws, rows] of many parameter vectors [draws, free], natural scale."""
    rows, draws = len(next(iter(columns.values()))), len(coordinates)
    if not draws:
        return np.zeros((0, rows))
    wide = padded(rows)
    with jax.enable_x64(True):
        padded_columns = {k: pad(np.asarray(v, float), wide) for k, v in columns.items()}
        run = predictor(problem.law, problem.free)
        out = run(pad(coordinates, padded(draws)), dict(problem.given), padded_columns)
        return np.asarray(out)[:draws, :rows]
