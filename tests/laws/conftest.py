"""Published tables, read once, with the columns that the laws call for."""

import pathlib
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scaling.laws.options import FitRequest, PlanRequest, read
from scaling.laws.table import read_table

PUBLISHED = pathlib.Path(__file__).parent.parent / "data" / "published"


@pytest.fixture(scope="session")
def chinchilla_245() -> pd.DataFrame:
    """All runs that Besiroglu et al. read off the figure; tokens = FLOP / (6 params)."""
    return read_table(
        PUBLISHED / "chinchilla_epoch.csv",
        columns="params=Model Size,flops=Training FLOP",
        derive="tokens=flops/(6*params)",
    ).rows


@pytest.fixture(scope="session")
def chinchilla_240(chinchilla_245: pd.DataFrame) -> pd.DataFrame:
    """Without the five of largest loss, in the order of the file."""
    return chinchilla_245[chinchilla_245.loss <= np.sort(chinchilla_245.loss)[239]]


@pytest.fixture(scope="session")
def isoflop_runs() -> pd.DataFrame:
    """Porian et al., the OpenWebText2 half."""
    return read_table(PUBLISHED / "isoflop_openwebtext2.csv").rows


def published(name: str, **options: str) -> pd.DataFrame:
    """Another published table."""
    return read_table(PUBLISHED / name, **options).rows


def fit_request(**typed: Any) -> FitRequest:
    """What `launch.py fit` would ask with these flags."""
    return read(FitRequest, typed)


def plan_request(**typed: Any) -> PlanRequest:
    """Likewise, `launch.py plan`."""
    return read(PlanRequest, typed)
