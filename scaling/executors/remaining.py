"""What is left of a sweep while it trains, in seconds: pure, from jobs and measured costs.

A `Sweep` is how the jobs stand and what their programs were seen to take (`timing.Cost`): in this
sweep, and before it. Steps still to do are counted in the seconds a step of their own program; of a
program that was not seen yet, in those of its neighbours in size. Compilations are counted once a
program, as long as those that were seen. `executors/progress.py` makes one for each line that it
prints; `benchmarks/time_left.py` replays them.
"""

import dataclasses
import heapq
import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from scaling.records.timing import Cost

# Seconds a step grow with FLOPs to a power: between two sizes that were seen, as they say; below
# the smallest, where what a step costs without any FLOPs comes to the fore, to `_BELOW` at most.
_POWERS, _BELOW = (0.3, 1.0), 0.8
# Seconds of steps from which a rate is believed: the first steps of a job stand beside another's
# compilation, and what they say would be said of all programs that were not seen yet.
_SURE = 5.0
_AGAIN = 3.0  # seconds, at most, to read a compiled program from jax's cache


@dataclass(frozen=True)
class Work:
    """A job: one run, or the members of a packed group, and what it still has to do."""

    program: str  # `timing.program`
    members: int
    steps: float  # still to do, the mean of its members
    flops: float  # of one member's step
    evaluations: int  # of every set, still to do
    evaluation_steps: float  # one of them, in steps by its FLOPs
    running: float | None = None  # seconds since it began; None: it waits
    cost: Cost | None = None  # of the steps that it made since then
    ending: float = 0.0  # seconds since its last step, when there is no step left
    trunk: int | None = None  # place in the list of the job from which its runs begin
    behind: float = 0.0  # steps of the trunk, still to do, until they can


@dataclass(frozen=True)
class Sweep:
    """Jobs that have not ended, in the order in which they are started, and what was measured."""

    slots: int  # jobs at a time
    works: Sequence[Work]
    now: Sequence[Cost]  # of this sweep: runs that have ended, and those that train
    before: Mapping[str, Sequence[Cost]] = field(default_factory=dict)  # program -> its records

    def seconds(self) -> float | None:
        """Until the last job ends; None: of no program is known how long a step takes."""
        if not self.works:
            return 0.0
        rates = _Rates(self.now, self.before)
        return _ends(self, rates) if rates.known else None


class _Rates:
    """Seconds of one member's step, of evaluations and of starts, by program."""

    def __init__(self, now: Sequence[Cost], before: Mapping[str, Sequence[Cost]]):
        seen = _by_program(now)
        old = {name: _mean(costs) for name, costs in before.items() if costs}
        sure = {name: costs for name, costs in seen.items() if sum(map(_spent, costs)) >= _SURE}
        if not sure and not old:
            sure = seen
        # The machine may be faster or slower today than it was then.
        drifts = [_mean(costs) / old[name] for name, costs in sure.items() if name in old]
        drift = statistics.median(drifts) if drifts else 1.0
        self.known = {name: seconds * drift for name, seconds in old.items()}
        self.known |= {name: _mean(costs) for name, costs in sure.items()}
        flops = {c.program: c.flops_per_step for c in itertools.chain(now, *before.values())}
        self._points = sorted((flops[name], seconds) for name, seconds in self.known.items())
        costs = list(now) or list(itertools.chain(*before.values()))
        # A group opens the data of all of its members.
        self._other = {
            group: statistics.median(found)
            for group in (True, False)
            if (found := [c.other_s for c in costs if (c.members > 1) == group])
        }
        # Of each program the first compilation is the longest: it was not in jax's cache.
        self._compiling: dict[tuple[str, int], float] = {}
        for c in costs:
            self._compiling[_key(c)] = max(c.compile_s, self._compiling.get(_key(c), 0.0))
        self._usual = statistics.median(self._compiling.values()) if costs else 0.0
        # Evaluations are counted in steps, too: of other sizes they are as many.
        self._evaluations = {name: _evaluation(costs) for name, costs in {**before, **seen}.items()}
        self._evaluations["any"] = _evaluation(now)

    def step(self, work: Work) -> float:
        """Seconds of a step of one member."""
        if work.cost is not None and _spent(work.cost) >= _SURE:
            return work.cost.step_s / work.cost.members
        if work.program in self.known:
            return self.known[work.program]
        return _between(self._points, work.flops)

    def evaluation(self, work: Work) -> float:
        """Seconds of an evaluation of one member: as many steps as it took its program, else the
        others that were seen, else as many as its FLOPs are.
        """
        own, others = (self._evaluations.get(name) for name in (work.program, "any"))
        return (own or others or work.evaluation_steps) * self.step(work)

    def start(self, work: Work, first: bool) -> float:
        """Seconds from the start of a job to its first step."""
        # A program that was not seen compiles as long as the usual one.
        usual = self._compiling.get(_key(work), self._usual)
        others = self._other or {False: 0.0}
        other = others.get(work.members > 1, next(iter(others.values())))
        return other + (usual if first else min(usual, _AGAIN))


def _key(of: Cost | Work) -> tuple[str, int]:
    """What is compiled once."""
    return of.program, of.members


def _evaluation(costs: Iterable[Cost]) -> float | None:
    """Steps that take as long as an evaluation."""
    steps = [c.eval_s / c.step_s for c in costs if c.eval_s and c.step_s]
    return statistics.median(steps) if steps else None


def _by_program(costs: Iterable[Cost]) -> dict[str, list[Cost]]:
    out: dict[str, list[Cost]] = {}
    for cost in costs:
        out.setdefault(cost.program, []).append(cost)
    return out


def _spent(cost: Cost) -> float:
    """Seconds of the steps that a cost is the mean of."""
    return cost.step_s * cost.steps


def _mean(costs: Sequence[Cost]) -> float:
    """Seconds of one member's step, by the steps that each of the costs is the mean of."""
    steps = sum(c.steps * c.members for c in costs)
    return max(sum(c.step_s * c.steps for c in costs) / max(steps, 1), 1e-9)


def _between(points: Sequence[tuple[float, float]], flops: float) -> float:
    """Seconds of a step of so many FLOPs, by those of (FLOPs, seconds), on a line through the
    nearest two in logarithms.
    """
    near = sorted(points, key=lambda point: abs(math.log(point[0] / flops)))
    (f0, s0), power = near[0], _BELOW
    for f1, s1 in near[1:]:
        if abs(math.log(f1 / f0)) > 0.1:
            power = math.log(s1 / s0) / math.log(f1 / f0)
            break
    low, high = _POWERS
    high = _BELOW if flops < points[0][0] else high
    return s0 * (flops / f0) ** min(max(power, low), high)


def _ends(sweep: Sweep, rates: _Rates) -> float:
    """Each slot takes the first job that can begin, as the scheduler does."""
    works = sweep.works
    compiled = {_key(c) for c in sweep.now}
    begun: dict[int, float] = {}  # seconds from now to the first step
    slots: list[float] = []
    waiting: list[int] = []
    ends: list[float] = [0.0]

    def begin(i: int, at: float) -> float:
        work = works[i]
        start, elapsed = 0.0, work.running or 0.0
        if work.cost is None:
            start = rates.start(work, _key(work) not in compiled)
            start = max(start - elapsed, 0.1 * elapsed)
        compiled.add(_key(work))
        begun[i] = at + start
        step = rates.step(work) * work.members
        last = work.evaluations * rates.evaluation(work) * work.members
        last = max(last - work.ending, 0.1 * work.ending)
        ends.append(begun[i] + work.steps * step + last)
        return ends[-1]

    for i, work in enumerate(works):
        if work.running is None:
            waiting.append(i)
        else:
            slots.append(begin(i, 0.0))
    slots += [0.0] * (min(sweep.slots, len(works)) - len(slots))

    def can(i: int) -> float:
        """When a waiting job's runs have begun from their trunk."""
        trunk = works[i].trunk
        if trunk is None:
            return 0.0
        if trunk not in begun:
            return math.inf
        step = rates.step(works[trunk]) * works[trunk].members
        return begun[trunk] + works[i].behind * step

    heapq.heapify(slots)
    while waiting:
        at = heapq.heappop(slots)
        first = next((i for i in waiting if can(i) <= at), None)
        if first is None:
            first = min(waiting, key=can)
            at = can(first) if can(first) < math.inf else at  # a circle; there is none
        waiting.remove(first)
        heapq.heappush(slots, begin(first, at))
    return max(ends)


def as_dict(sweep: Sweep) -> dict:
    """As JSON; `from_dict` reads it back."""
    return dataclasses.asdict(sweep)


def from_dict(values: Mapping) -> Sweep:
    """What `as_dict` was given."""
    works = [
        Work(**{**work, "cost": Cost(**work["cost"]) if work["cost"] else None})
        for work in values["works"]
    ]
    before = {name: [Cost(**c) for c in costs] for name, costs in values["before"].items()}
    return Sweep(values["slots"], works, [Cost(**c) for c in values["now"]], before)
