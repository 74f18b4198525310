"""Runs as other programs take them, and models of others as runs: `launch.py export` and `import`.

`tensors.py` reads and writes weights as safetensors, `outward.py` makes a folder of a run,
`inward.py` a run of a folder. What is called what stands with each family
(`families/exchanged.py`). Nothing of theirs is imported: files go out, and files come in.
"""
