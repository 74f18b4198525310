"""Many minimisations of one law at once, in float64, with exact gradients and Hessians.

Takes tasks (a starting point, targets and row weights each) and gives a minimum for each. One
compiled program works through a batch of them in a fixed number of slots; a slot whose task has
ended takes the next by itself, so that 30 starts and 4,000 resamples share one compilation.
Each task is a damped Newton iteration with bounds; for nearly absolute losses (a Huber delta far
below the residuals) the delta is lowered step by step. Called by `fitting.py` and `uncertainty.py`.
"""

import concurrent.futures
import functools
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling.laws.law import Law
from scaling.laws.problem import Problem, pad, padded, value_of

SLOTS = 16  # tasks that are iterated together
BATCH = 256  # tasks that one call of the program works through
TOLERANCE = 1e-13  # of the objective: the decrease that the quadratic model still promises
LONGEST = 2.0  # longest step in one coordinate (most are logarithms)


@dataclass(frozen=True)
class Minima:
    """What came of each task."""

    coordinates: np.ndarray  # [tasks, free]
    objective: np.ndarray  # [tasks]: sum of weight * Huber, unscaled
    gradient: np.ndarray  # [tasks, free], of the objective
    hessian: np.ndarray  # [tasks, free, free]
    iterations: np.ndarray  # [tasks]
    converged: np.ndarray  # [tasks], bool


class _Tasks(NamedTuple):
    """How far each task has come; the leading axis of every field is the task (or the slot)."""

    at: Any  # coordinates [tasks, free]
    gradient: Any  # [tasks, free], there
    hessian: Any  # [tasks, free, free]
    value: Any  # [tasks]: objective
    damping: Any
    delta: Any  # now; falls to that of the problem
    fresh: Any  # flag: nothing is known at `at` yet, take the next point as it is
    done: Any  # flag
    converged: Any  # flag
    iterations: Any


class _Shared(NamedTuple):
    """What does not change while the tasks run."""

    bounds: Any  # [tasks, 2, free]: low, high
    target: Any  # [tasks, rows]
    weight: Any
    goal: Any  # the problem's delta
    tilt: Any
    given: Any
    columns: Any


def huber(residual: Any, delta: Any, tilt: Any) -> Any:
    """Huber loss, r^2 / 2 within delta and delta (|r| - delta / 2) beyond; `tilt` q weighs
    positive residuals by 2 (1 - q) and negative ones by 2 q.
    """
    size = jnp.abs(residual)
    inner = jnp.minimum(size, delta)
    side = jnp.where(residual > 0, 2 * (1 - tilt), 2 * tilt)
    return side * inner * (size - 0.5 * inner)


def _pack(tasks: _Tasks, numpy: Any = jnp) -> Any:
    """All fields side by side in one array [tasks, fields], so that one small kernel moves them."""
    return numpy.concatenate([numpy.reshape(f, (len(f), -1)) for f in tasks], axis=1, dtype=float)


def _unpack(packed: Any, free: int) -> _Tasks:
    """The fields of `_pack`."""
    ends = list(itertools.accumulate([free, free, free * free, 1, 1, 1, 1, 1, 1, 1]))
    parts = [packed[:, i:j] for i, j in itertools.pairwise([0, *ends])]
    at, gradient, hessian = parts[:3]
    value, damping, delta, fresh, done, converged, iterations = (p[:, 0] for p in parts[3:])
    return _Tasks(
        at, gradient, hessian.reshape(-1, free, free), value, damping, delta, fresh > 0, done > 0,
        converged > 0, iterations,
    )  # fmt: skip


@functools.lru_cache(maxsize=64)
def _program(law: Law, free: tuple[str, ...], space: str) -> Callable[..., _Tasks]:
    count = len(free)

    def objective(at, target, weight, delta, tilt, given, columns):
        predicted = value_of(law, free, at, given, columns)
        residual = (jnp.log(predicted) if space == "log" else predicted) - target
        return jnp.sum(weight * huber(residual, delta, tilt))

    def with_gradient(at, *rest):
        value, gradient = jax.value_and_grad(objective)(at, *rest)
        return gradient, (value, gradient)

    second = jax.vmap(
        jax.jacfwd(with_gradient, has_aux=True), in_axes=(0, 0, 0, 0, None, None, None)
    )

    def solve(matrix: Any, vector: Any) -> Any:
        """Elimination with pivots made positive (LDL'): always a descent direction. [slots, free],
        a loop of few operations, because the time to compile grows with their number.
        """

        def eliminate(j: Any, both: Any) -> Any:
            row, column = both[:, j], both[:, :, j]
            row = row / jnp.maximum(jnp.abs(row[:, j]), 1e-10)[:, None]
            return (both - column[:, :, None] * row[:, None, :]).at[:, j].set(row)

        both = jnp.concatenate([matrix, vector[:, :, None]], axis=2)
        return jax.lax.fori_loop(0, count, eliminate, both)[:, :, count]

    def propose(s: _Tasks, low: Any, high: Any) -> Any:
        held = ((s.at <= low) & (s.gradient > 0)) | ((s.at >= high) & (s.gradient < 0))
        held = held | (low == high)
        eye = jnp.eye(count)[None]
        diagonal = jnp.abs(jnp.sum(s.hessian * eye, axis=2))
        largest = jnp.max(diagonal, axis=1, keepdims=True)
        scale = jnp.sqrt(jnp.maximum(diagonal, 1e-14 * largest + 1e-300))
        gradient = jnp.where(held, 0.0, s.gradient / scale)
        matrix = s.hessian / (scale[:, :, None] * scale[:, None, :])
        matrix = matrix + s.damping[:, None, None] * eye
        matrix = jnp.where(held[:, :, None] | held[:, None, :], eye, matrix)
        step = -solve(matrix, gradient) / scale
        longest = jnp.max(jnp.abs(step), axis=1, keepdims=True)
        step = step * jnp.minimum(1.0, LONGEST / jnp.maximum(longest, 1e-300))
        step = jnp.where(s.fresh[:, None] & jnp.isinf(s.value)[:, None], 0.0, step)
        return jnp.clip(s.at + step, low, high)

    def iterate(s: _Tasks, own: _Shared) -> _Tasks:
        trial = propose(s, own.bounds[:, 0], own.bounds[:, 1])
        step = trial - s.at
        curved = jnp.einsum("sij,sj->si", s.hessian, step)
        promised = -jnp.sum(step * (s.gradient + 0.5 * curved), axis=1)
        hessian, (value, gradient) = second(
            trial, own.target, own.weight, s.delta, own.tilt, own.given, own.columns
        )
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(hessian), axis=(1, 2))
        gained = s.value - value
        small = promised <= TOLERANCE * value + 1e-26 * jnp.sum(own.weight, axis=1)
        taken = finite & (s.fresh | (gained > 0) | (small & (gained >= -1e-12 * s.value)))
        ratio = jnp.where(s.fresh, 0.5, gained / jnp.maximum(promised, 1e-300))
        eased = jnp.where(s.damping < 1e-5, 0.0, 0.1 * s.damping)
        damping = jnp.where(ratio > 0.7, eased, jnp.where(ratio > 0.2, s.damping, 4 * s.damping))
        damping = jnp.where(taken, damping, 8 * jnp.maximum(s.damping, 1e-3))
        # Nearly a minimum at this delta: lower it, and take the next point as it comes.
        near = taken & ~s.fresh & (promised <= 1e-2 * value) & (s.damping <= 0.1)
        lower = near & (s.delta > own.goal)
        ended = ~s.fresh & (s.delta <= own.goal) & small & (s.damping <= 1.0)
        stuck = ~taken & (s.damping > 1e9) & (s.delta <= own.goal)
        escape = ~taken & (s.damping > 1e9) & (s.delta > own.goal)
        delta = jnp.where(lower | escape, jnp.maximum(own.goal, 0.2 * s.delta), s.delta)
        damping = jnp.where(escape, 1e-3, damping)
        return _Tasks(
            jnp.where(taken[:, None], trial, s.at),
            jnp.where(taken[:, None], gradient, s.gradient),
            jnp.where(taken[:, None, None], hessian, s.hessian),
            jnp.where(taken, value, s.value),
            damping=damping, delta=delta, fresh=(s.fresh & ~taken) | lower | escape,
            done=ended | stuck, converged=ended, iterations=s.iterations + 1,
        )  # fmt: skip

    @functools.partial(jax.jit, static_argnums=0)
    def run(slots, tasks, shared, count, enough, rounds):
        """The first `count` tasks, at most `rounds` iterations each, until `enough` are done."""

        def go(carry: Any) -> Any:
            return carry[0] < enough

        def body(carry: Any) -> Any:
            ended, waiting, which, tasks = carry
            packed = tasks[which]
            old = _unpack(packed, len(free))
            own = {k: getattr(shared, k)[which] for k in ("bounds", "target", "weight")}
            new = iterate(old, shared._replace(**own))
            new = new._replace(done=new.done | (new.iterations >= rounds))
            tasks = tasks.at[which].set(jnp.where(old.done[:, None], packed, _pack(new)))
            # Slots whose task is done take the next one that waits; when none does, they idle.
            done = old.done | new.done
            following = waiting + jnp.cumsum(done) - 1
            taken = done & (following < count)
            ended = ended + jnp.sum(done & ~old.done)
            return ended, waiting + jnp.sum(taken), jnp.where(taken, following, which), tasks

        begin = (jnp.int64(0), jnp.minimum(slots, count), jnp.arange(slots), tasks)
        return jax.lax.while_loop(go, body, begin)[-1]

    return run


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
    tasks, count = starts.shape
    rows, own = padded(len(problem.target)), len(problem.target)
    # A batch and its slots shrink as the rows grow, so that memory does not; where rows are many,
    # idle slots cost more than one more compilation.
    slots = min(SLOTS, max(1, 2**21 // rows))
    if rows > 2**12:
        slots = min(slots, 1 << (tasks - 1).bit_length())
    batch = min(BATCH, max(slots, 2**17 // rows))
    low, high = problem.bounds()
    starts = np.clip(starts, low, high)
    bounds = np.broadcast_to(np.stack([low, high]), (tasks, 2, count))
    if held is not None:
        bounds = np.where(held[:, None], starts[:, None], bounds)
    goal = min(problem.delta, 1e12)
    begin = np.full(tasks, goal) if first_delta is None else np.maximum(first_delta, goal)
    program = _program(problem.law, problem.free, problem.space)
    columns = {k: pad(np.asarray(v, float), rows) for k, v in problem.columns.items()}

    def run(first: int) -> np.ndarray:
        """One batch [live, fields]."""
        part = slice(first, first + batch)
        live = len(starts[part])
        target, weight = np.zeros((2, batch, rows))
        target[:live, :own] = problem.target if targets is None else targets[part]
        weight[:live, :own] = problem.weight if weights is None else weights[part]
        shared = _Shared(
            pad(bounds[part], batch), target, weight, np.float64(goal), np.float64(problem.tilt),
            dict(problem.given), columns,
        )  # fmt: skip
        state = _Tasks(
            pad(starts[part], batch), np.zeros((batch, count)),
            np.tile(np.eye(count), (batch, 1, 1)), np.full(batch, np.inf), np.full(batch, 1e-3),
            pad(begin[part], batch), fresh=np.ones(batch), done=np.arange(batch) >= live,
            converged=np.zeros(batch), iterations=np.zeros(batch),
        )  # fmt: skip
        enough = int(np.ceil(quorum * live))
        with jax.enable_x64(True):
            out = program(slots, _pack(state, np), shared, live, enough, iterations)
            return np.asarray(out)[:live]

    # XLA runs this program on one core, so that batches run side by side.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        done = list(pool.map(run, range(0, tasks, batch)))
    found = _unpack(np.concatenate(done), count)
    return Minima(
        found.at, found.value, found.gradient, found.hessian, found.iterations.astype(int),
        found.converged,
    )  # fmt: skip
