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
# # A law of a published table
#
# 240 models of Hoffmann et al. 2022, as Epoch AI read them off a figure (Besiroglu et al. 2024).
# The table is in the repository; run this from its root.

# %%
import scaling

table = scaling.runs(
    "tests/data/published/chinchilla_epoch.csv",
    columns="params=Model Size,flops=Training FLOP",
    derive="tokens=flops/(6*params)",
    where="loss < 4",
)
table[["params", "tokens", "flops", "loss"]].describe()

# %% [markdown]
# The law, with intervals by resampling (50 here, 1,000 by default).

# %%
law = scaling.fit(table, "chinchilla", bootstrap=50)
print(law)

# %% [markdown]
# What would a run with the size of Chinchilla have ended at? The interval holds doubt about the
# parameters, the noise of a run and doubt about the form.

# %%
scaling.predict(law, params=[1e9, 7e10], tokens=1.4e12)

# %% [markdown]
# And which run is the best of a budget? The optimum has an interval too.

# %%
best = scaling.plan(law, flops=5.76e23)
print(f"{best.params.value:.3g} parameters, {best.params.low:.3g} to {best.params.high:.3g}")
print(f"{best.amount.value:.3g} tokens")
best.other_sizes

# %%
scaling.draw(table, law)
