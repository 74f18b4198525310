"""The wheel has `configs/` and `experiments/` in `scaling/checkout/`; `scaling/place.py` finds
them, so that one package is installed. All else is in pyproject.toml.
"""

from setuptools import find_namespace_packages, setup

CARRIED = find_namespace_packages(include=["configs*", "experiments*"])

setup(
    packages=find_namespace_packages(include=["scaling*"])
    + [f"scaling.checkout.{name}" for name in CARRIED],
    package_dir={f"scaling.checkout.{name}": name.replace(".", "/") for name in CARRIED},
)
