"""What a person sees of a run while it trains: a bar on a terminal, plain lines elsewhere.

Made before the data are opened, since that and the compilation take their time: the first plain
line comes at once, and then one at least every `heartbeat.every()` seconds.
"""

import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

from scaling import heartbeat

_LINE_EVERY = 10.0  # seconds between plain lines
_STARTING = "starting (data, then compilation)"
_TRAINS = "trains (its first metrics are still to come)"


class Progress:
    """Rate, ETA, loss and MFU of a run, or of `runs` whose steps are added up; `label` starts each
    plain line. Close it.
    """

    def __init__(self, label: str, steps: int, quiet: bool = False, runs: int = 1):
        self._label, self._steps, self._quiet, self._runs = label, steps, quiet, runs
        self._begun = self._last_line = time.monotonic()
        self._known, self._measure = _STARTING, "loss"
        self._known_at = self._begun
        self._bar: tqdm | None = None
        self._on_terminal = sys.stderr.isatty() and not quiet
        self._beat: heartbeat.Heartbeat | None = None
        if not quiet and not self._on_terminal:
            self._beat = heartbeat.Heartbeat(self._again)
            self.say(self._known)

    def begin(self, start: int, measure: str = "loss") -> None:
        """Training goes on from the state after `start` updates; again after a return to it.

        `measure`: what the objective calls the loss.
        """
        self._measure = measure
        if self._bar is not None:
            self._bar.reset(self._steps)
            self._bar.update(start)
        elif self._on_terminal:
            self._bar = tqdm(total=self._steps, initial=start, unit="step")

    def compiled(self) -> None:
        """The first steps are on their way."""
        if self._known == _STARTING:
            self._known, self._known_at = _TRAINS, time.monotonic()

    def update(self, step: int, loss: float | None, rate: float, mfu: float | None) -> None:
        """The state after `step` updates; `rate` in steps a second; loss None: not known yet."""
        facts = f"train {self._measure} " + ("-" if loss is None else f"{loss:.4f}")
        facts += f"  mfu {mfu:.1%}" if mfu is not None else ""
        if self._bar is not None:
            self._bar.set_postfix_str(facts, refresh=False)
            self._bar.update(step - self._bar.n)
            return
        if self._quiet:
            return
        now = self._known_at = time.monotonic()
        eta = (self._steps - step) / rate if rate > 0 else float("inf")
        place = f"{step}/{self._steps}"
        place = f"step {place}" if self._runs == 1 else f"{place} steps of {self._runs} runs"
        self._known = f"{place}  {facts}  {rate:.3g} steps/s  eta {_duration(eta)}"
        if now - self._last_line > _LINE_EVERY or step == self._steps:
            self.say(self._known)

    def evaluated(self, step: int, losses: Mapping[str, float]) -> None:
        """The mean loss of each evaluation set after `step` updates; on a bar they take the place
        of the training batch's.
        """
        text = ", ".join(f"{name} {self._measure} {loss:.4f}" for name, loss in losses.items())
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=True)
        self.say(f"step {step}/{self._steps}  evaluated: {text}")

    def say(self, text: str) -> None:
        """A line above the bar, or a plain line."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        elif not self._quiet:
            self._last_line = time.monotonic()
            if self._beat is not None:
                self._beat.said()
            heartbeat.say(f"{self._label}: {text}")

    def _again(self) -> str:
        """What was known last, and since when nothing else is."""
        age = _duration(time.monotonic() - self._known_at)
        when = f"{age} so far" if self._known in (_STARTING, _TRAINS) else f"as of {age} ago"
        return f"{self._label}: {self._known}, {when}"

    def close(self) -> None:
        """Leave the terminal clean."""
        if self._beat is not None:
            self._beat.close()
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _duration(seconds: float) -> str:
    if seconds == float("inf"):
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{seconds:02d}s"
