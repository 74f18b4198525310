"""The hash that names a run, and the name of its directory. No jax in this file."""

import hashlib
import json
import re

from scaling.config import amounts
from scaling.config.reading import to_identity
from scaling.config.run import RunConfig
from scaling.errors import ConfigError

_KEPT = "_fingerprint"


def fingerprint(config: RunConfig) -> str:
    """12 hex digits of the SHA-256 of a resolved run's identity: every field but those marked
    `execution`.

    Mesh, microbatches, steps per call and the like are left out: they change where and how a run is
    computed, not what, so a run moved to another machine keeps its directory and its checkpoints.
    """
    if config.train.steps is None or config.data.corpus is None:
        raise ConfigError(
            "fingerprint: the config is not resolved; call scaling.studies.study.resolve first"
        )
    # A config never changes, and a sweep asks for each of its names many times: kept beside its
    # fields, where neither equality nor `dataclasses.replace` looks.
    kept: str | None = config.__dict__.get(_KEPT)
    if kept is None:
        canonical = json.dumps(to_identity(config), sort_keys=True, separators=(",", ":"))
        kept = hashlib.sha256(canonical.encode()).hexdigest()[:12]
        object.__setattr__(config, _KEPT, kept)
    return kept


def is_fingerprint(text: str) -> bool:
    """Whether it could be what `fingerprint` gives."""
    return re.fullmatch(r"[0-9a-f]{12}", text) is not None


def run_name(config: RunConfig) -> str:
    """Name of the run directory: readable sizes, then the fingerprint. For people only; nothing
    parses it.
    """
    model, unit = config.model, config.data.unit[:3]
    sizes = f"w{model.width}-d{model.depth}-{_short(amounts.units(config))}{unit}-s{config.seed}"
    return f"{model.family}-{sizes}-{fingerprint(config)}"


def _short(count: float) -> str:
    for unit in ("", "k", "M", "G", "T"):
        if count < 1000:
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:.3g}P"
