"""What do steps between two averages buy, and what does it cost that clients own different data?

Perceptrons on MNIST-1D (Greydanus and Kobak 2020). A hundred clients own forty signals each, of
all classes or of few; ten of them take part in a round, with one to eight steps of eight signals
each, for the same number of rounds. `:clients` varies how many take part in a round.
"""

from configs import mnist1d
from scaling.config import is_debug
from scaling.config.sweep import Study, grid, product, with_seeds

ROUNDS, ROWS = 200, 8  # rows of one step of a client
CLIENTS, PER_ROUND = 100, 10
SKEWS = (0.0, 0.5, 1.0)
# At width 256 and 300 rounds, of 0.02, 0.05, 0.1, 0.2, 0.5 and 1 the loss of one seed without skew
# is least at 0.5 and 1 with one local step, and at 0.1 with eight: one rate between them for all.
RATE = 0.2


def get_study(arg: str = "") -> Study:
    """Local steps (or clients a round) by skew, three seeds; "debug": few rounds."""
    of_clients = arg.startswith("clients")
    debug = is_debug(arg.removeprefix("clients").removeprefix("_"))
    base = mnist1d.get_config("mlp")
    base.model.width = 64
    base.model.dropout = 0.0
    base.optim.name = "sgd"  # at the clients' rate: the run's parameters become their mean
    base.optim.b1 = 0.0
    base.optim.weight_decay = 0.0
    base.optim.schedule = "constant"
    base.optim.clip_norm = None
    base.train.epochs = None
    base.train.steps = 4 if debug else ROUNDS
    base.train.log_every = 2 if debug else 20
    base.evals.every = 2 if debug else 50
    base.federated.clients = CLIENTS
    rounds = {
        "federated.local_lr": RATE,
        "optim.peak_lr": RATE,
        "optim.warmup_steps": 0,
    }
    if of_clients:
        name, several = "federated.per_round", (1, 10) if debug else (1, 3, 10, 30)
        steps = dict.fromkeys(several, 4)
    else:
        name, several = "federated.local_steps", (1, 2) if debug else (1, 2, 4, 8)
        steps = {count: count for count in several}
    varied = [
        rounds
        | {
            "federated.per_round": count if of_clients else PER_ROUND,
            "federated.local_steps": steps[count],
            "train.batch_size": (count if of_clients else PER_ROUND) * steps[count] * ROWS,
        }
        for count in several
    ]
    runs = product(varied, grid({"federated.skew": SKEWS[::2] if debug else SKEWS}))
    return Study(
        name="federated-clients" if of_clients else "federated",
        question="What do steps between two averages buy, and what do unlike clients cost?",
        base=base,
        runs=with_seeds(runs, 1 if debug else 3),
        x=name,
        group=("federated.skew",),
        holdout=False,
    )
