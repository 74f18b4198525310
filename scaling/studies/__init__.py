"""From files to runs: a config or an experiment becomes resolved RunConfigs, here, where the
config meets the corpus and the sizes (`study`).
"""
