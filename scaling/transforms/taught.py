"""A model beside its teacher, whose parameters lie under "teacher" among its own, untrained.

Takes the student and the teacher's module; gives a model whose outputs have the teacher's among
them, for the loss (`objectives/distillation.py`). Where nobody asks for these, as in evaluation,
the compiler leaves them out. Called by `transform.py`.
"""

from dataclasses import dataclass
from typing import Any

import jax

from scaling.models import dropout
from scaling.objectives.distillation import TEACHER
from scaling.transforms.beside import alone


@dataclass(frozen=True)
class Taught:
    """Called as a flax module is."""

    student: Any
    teacher: Any

    def init(self, key: jax.Array, batch: Any) -> dict[str, Any]:
        """{"params": the student's, and its teacher's beside them, boxed}."""
        own = self.student.init(key, batch)["params"]
        return {"params": own | {TEACHER: self.teacher.init(key, batch)["params"]}}

    def apply(self, variables: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        """The student's outputs, with those of the teacher, which drops nothing."""
        params = variables["params"]
        outputs = self.student.apply({"params": alone(params)}, batch, *args, **kwargs)
        clean = {name: x for name, x in batch.items() if name != dropout.FIELD}
        with jax.named_scope(TEACHER):
            theirs = self.teacher.apply({"params": jax.lax.stop_gradient(params[TEACHER])}, clean)
        return {**outputs, TEACHER: theirs}
