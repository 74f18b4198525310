"""Layers that families share: attention and its kernels, mixtures of experts, pipelines, norms,
rematerialisation. A family (`scaling/families`) puts them together into a network; `fields.py` has
the config that families with attention begin with.
"""
