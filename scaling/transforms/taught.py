"""A model beside its teacher, whose parameters lie under "teacher" among its own, untrained.

Takes the student and the teacher's module; gives a model whose outputs have the teacher's among
them, for the loss (`objectives/distillation.py`). Where nobody asks for these, as in evaluation,
the compiler leaves them out. With `distill.features` a map of the student's states lies beside its
parameters and is trained with them. With `distill.on_policy` a training batch has a key for each
row (`train/augment.py`), and both read rows that the student continues. Called by `transform.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp

from scaling import families
from scaling.config import DistillConfig, choices
from scaling.config.choices import ModelConfig
from scaling.devices import sharding
from scaling.errors import ConfigError
from scaling.models import dropout
from scaling.models.layers import Projection
from scaling.objectives.distillation import MAPPED, TEACHER, WRITTEN, prompt_of
from scaling.transforms.beside import MAP, alone

FIELD = "writes"  # of a batch: uint32 [B, 2], the data of keys
_STATES = ("hidden", "features")  # outputs that are a model's last states, [B, L, D] or [B, D]

# (parameters as stored, prompts [B, P], tokens to add, keys [B]) -> [B, P + tokens]
Writes = Callable[[Any, jax.Array, int, jax.Array], jax.Array]


@dataclass(frozen=True)
class Taught:
    """Called as a flax module is."""

    student: Any
    teacher: Any
    config: DistillConfig
    states: str | None = None  # which outputs the map is of; None: there is none
    writes: Writes | None = None

    def init(self, key: jax.Array, batch: Any) -> dict[str, Any]:
        """{"params": the student's, its teacher's and the map beside them, boxed}."""
        own = self.student.init(key, batch)["params"]
        whole = own | {TEACHER: self.teacher.init(key, batch)["params"]}
        if self.states is not None:
            ours, theirs = (
                jax.eval_shape(model.apply, {"params": sharding.unbox(of)}, batch)[self.states]
                for model, of in ((self.student, own), (self.teacher, whole[TEACHER]))
            )
            began = jnp.zeros(ours.shape, ours.dtype)
            module = _map(ours.ndim, ours.shape[-1], theirs.shape[-1])
            whole[MAP] = module.init(jax.random.fold_in(key, 1), began)["params"]
        return {"params": whole}

    def apply(self, variables: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        """The student's outputs, with those of the teacher, which drops nothing."""
        params = variables["params"]
        read = {name: x for name, x in batch.items() if name != FIELD}
        own = alone(params)
        outputs = self.student.apply({"params": own}, read, *args, **kwargs)
        found, ours = dict(outputs), outputs
        with jax.named_scope(TEACHER):
            if FIELD in batch:
                read, own_B = self._written(own, read, batch[FIELD])
                ours = self.student.apply({"params": own}, read, *args, **kwargs)
                found[WRITTEN] = {**ours, "own": own_B}
            clean = {name: x for name, x in read.items() if name != dropout.FIELD}
            theirs = self.teacher.apply({"params": jax.lax.stop_gradient(params[TEACHER])}, clean)
            if self.states is not None:
                one, other = ours[self.states], theirs[self.states]
                module = _map(one.ndim, one.shape[-1], other.shape[-1])
                mapped = module.apply({"params": params[MAP]}, one)
                found[MAPPED] = {"mapped": mapped, "states": other}
        return {**found, TEACHER: theirs}

    def _written(
        self, own: Any, batch: Mapping[str, Any], keys_Bx2: jax.Array
    ) -> tuple[dict[str, Any], jax.Array]:
        """The batch with a share of its rows continued by the student from their first tokens, as
        one text; and which these are, bool [B].
        """
        tokens_BxL = batch["tokens"]
        length = tokens_BxL.shape[1]
        prompt = prompt_of(self.config.prompt, length)
        keys_B = jax.random.wrap_key_data(keys_Bx2)
        pairs_Bx2 = jax.vmap(jax.random.split)(keys_B)
        held = jax.lax.stop_gradient(own)
        writes = cast(Writes, self.writes)
        made_BxL = writes(held, tokens_BxL[:, :prompt], length - prompt, pairs_Bx2[:, 0])
        own_B = jax.vmap(jax.random.uniform)(pairs_Bx2[:, 1]) < self.config.on_policy
        one_text = {
            "tokens": made_BxL,
            "positions": jnp.broadcast_to(jnp.arange(length)[None], made_BxL.shape),
            "segment_ids": jnp.ones_like(made_BxL),
        }
        changed = {
            name: jnp.where(own_B[:, None], x.astype(batch[name].dtype), batch[name])
            for name, x in one_text.items()
            if name in batch
        }
        return {**batch, **changed}, own_B


def taught(
    student: Any, model: ModelConfig, teacher: ModelConfig, config: DistillConfig,
    used: Callable[[Any], Any],
) -> Taught:  # fmt: skip
    """A student beside its teacher.

    Args:
      student: takes the parameters as stored.
      model, teacher: what they are, resolved.
      used: parameters as stored -> as the model uses them.

    Raises ConfigError where features are asked for of families that give none alike.
    """
    states = _states(model, teacher) if config.features else None
    writes: Writes | None = None
    if config.on_policy:
        generate = choices.load(choices.family(model).generate)

        def writes(stored: Any, prompts: jax.Array, new: int, keys_B: jax.Array) -> jax.Array:
            return cast(jax.Array, generate(model, used(stored), prompts, new, keys_B))

    return Taught(student, families.build(teacher), config, states, writes)


def _states(model: ModelConfig, teacher: ModelConfig) -> str:
    one, other = (choices.family(of) for of in (model, teacher))
    for name in _STATES:
        if name in one.gives and name in other.gives:
            return name
    names = f"model.family={model.family} and that of its teacher, {teacher.family}"
    raise ConfigError(f"distill.features: {names}, give no states alike; leave it at 0")


def _map(axes: int, ours: int, theirs: int) -> Projection:
    spec = "BLD,DF->BLF" if axes == 3 else "BD,DF->BF"
    return Projection(spec, (ours, theirs), ("embed", "mlp"), "float32")
