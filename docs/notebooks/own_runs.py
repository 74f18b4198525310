# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Runs, their table and their curves
#
# The small form of the quick start trains here, within a minute or two; run this from the root of
# the repository. Runs that are done are not trained again.

# %%
import subprocess
import sys

import scaling

STUDY, WORKDIR = "experiments/quickstart.py:debug", "out/notebook"
command = ["launch.py", "sweep", f"--experiment={STUDY}", f"--workdir={WORKDIR}"]
subprocess.run([sys.executable, *command], check=True, capture_output=True)

frame = scaling.runs(WORKDIR, where="status == 'done'")
frame[["width", "params", "tokens", "seed", "loss", "loss_se"]].sort_values("params")

# %% [markdown]
# Their curves, a line each.

# %%
lines = scaling.curves(WORKDIR)
train = lines[lines["split"] == "train"]
axes = None
for _, curve in train.groupby("name"):
    axes = curve.plot("tokens", "loss", ax=axes, legend=False, logx=True)
axes.set_ylabel("training loss (nats/token)")
axes.figure

# %% [markdown]
# The same figure as in the report. A few steps of a few sizes have no law yet: the full form has
# (`experiments/quickstart.py`), and `scaling.fit(frame, "power_floor", x="params")` fits it.

# %%
scaling.draw(frame, x="params")
