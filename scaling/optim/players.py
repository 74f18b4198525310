"""The optimizers of a run with several players: one each, behind the face of one `Optimizer`.

Takes an `OptimConfig` and the objective's players; every player's parameters are updated by an
optimizer of the config's kind with a state of its own, in steps and at a learning rate of its own.
Called by `scaling/train/step.py`, which does not know which of the two it has.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from scaling.config import OptimConfig
from scaling.config.contracts import Player
from scaling.errors import ConfigError
from scaling.optim import optimizer
from scaling.optim.optimizer import Info, Optimizer
from scaling.optim.parametrization import Parametrization
from scaling.optim.schedules import Hparams, learning_rate


@dataclass(frozen=True)
class Optimizers:
    """As `Optimizer`, of players. The state is a dict by player; gradients are clipped by the norm
    of a player's own.

    A player is updated after every `every` steps; in the others its parameters and its state stay
    as they are, bit for bit. The schedule goes by the steps of the run.
    """

    one: Optimizer
    players: tuple[Player, ...]
    offload: bool = False

    def init(self, params: Any) -> dict[str, optax.OptState]:
        """Raises ConfigError unless each top-level part of the parameters is one player's."""
        owners = [name for player in self.players for name in player.parameters]
        if sorted(owners) != sorted(params):
            raise ConfigError(
                f"the objective has players for {', '.join(sorted(owners))}, but what is trained "
                f"is {', '.join(sorted(params))}; choose a model.family with these parts, all of "
                "them trained"
            )
        return {player.name: self.one.init(_own(player, params)) for player in self.players}

    def average(self, ema: Any, params: Any, opt_state: Any, hparams: Hparams) -> Any:
        """As `Optimizer.average`, of each player's own."""
        found: dict[str, Any] = {}
        for player in self.players:
            own = _own(player, ema), _own(player, params)
            found |= self.one.average(*own, opt_state[player.name], hparams)
        return found

    def update(
        self, grads: Any, opt_state: Any, params: Any, step: Any, hparams: Hparams
    ) -> tuple[Any, Any, Info]:
        """As `Optimizer.update`: `grad_norm` and `update_norm` over all parameters, `lr` is that
        which the players' are multiples of; and once more of each player, `grad_norm/<name>`,
        `lr/<name>` (0 where it waits).
        """
        if self.offload:
            opt_state = optimizer.on_device(opt_state)
        new, states, info = dict(params), {}, Info()
        squares = dict.fromkeys(("grad_norm", "update_norm"), jnp.float32(0.0))
        for player in self.players:
            own, before = _own(player, params), opt_state[player.name]
            after, state, of_player = self.one.update(
                _own(player, grads), before, own, step, _hparams_of(player, hparams)
            )
            if player.every is not None:
                due = (step + 1) % hparams[player.every].astype(jnp.int32) == 0
                after, state = _choose(due, (after, state), (own, before))
                of_player["update_norm"] = jnp.where(due, of_player["update_norm"], 0.0)
                of_player["lr"] = jnp.where(due, of_player["lr"], 0.0)
            new |= after
            states[player.name] = state
            info |= {f"{name}/{player.name}": of_player[name] for name in ("grad_norm", "lr")}
            squares = {name: total + of_player[name] ** 2 for name, total in squares.items()}
        info |= {name: jnp.sqrt(total) for name, total in squares.items()}
        info["lr"] = learning_rate(step, hparams, self.one.schedule)
        if self.offload:
            states = optimizer.on_host(states)
        return new, states, info


def build(
    config: OptimConfig,
    players: Sequence[Player] = (),
    parametrization: Parametrization | None = None,
) -> Optimizer | Optimizers:
    """The optimizer that the structural fields of `config` describe: one, or one a player."""
    if not players:
        return optimizer.build(config, parametrization)
    one = optimizer.build(dataclasses.replace(config, offload=False), parametrization)
    return Optimizers(one, tuple(players), config.offload)


def _own(player: Player, tree: Mapping[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in tree.items() if name in player.parameters}


def _hparams_of(player: Player, hparams: Hparams) -> Hparams:
    if player.rate is None:
        return hparams
    return {**hparams, "peak_lr": hparams["peak_lr"] * hparams[player.rate]}


def _choose(due: jax.Array, one: Any, other: Any) -> Any:
    return jax.tree.map(lambda x, y: jnp.where(due, x, y), one, other)
