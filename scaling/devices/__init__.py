"""The devices: what kinds there are (`chips`, `slices`, `peaks`), the mesh that they form
(`meshes`), what lies where on it (`sharding`), several processes as one (`distributed`), and what
a process settles with jax before any of it (`runtime`, `xla_flags`).
"""
