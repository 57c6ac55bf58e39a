"""The federated strategies by name: each is one line, a class of Flower and its settings.

Plain data, so that a name can be checked without importing Flower or torch. Not covered: strategies that need a
cluster (secure aggregation) or a choice of organizations per round.
Source: `flwr.serverapp.strategy`, Flower 1.41; Reddi et al. 2021, arXiv 2003.00295, for eta, betas and tau.
"""

from __future__ import annotations

Settings = tuple[tuple[str, float], ...]

# Names -> Flower class, its settings. Differences from Flower's defaults:
# - eta, tau and beta_1 of the adaptive ones: the best of six settings tried on part of the demo, one seed each
#   (Flower's FedYogi: 0.01, 0.001, 0.9). The average update of a round is between 0.001 and 0.02 per number.
# - eta_l is the organizations' own rate, which Flower stores and never uses: the recipe's schedule holds.
# - beta of FedTrimmedAvg: 0.34 cuts one of three at each end; Flower's 0.2 would cut none.
STRATEGIES: dict[str, tuple[str, Settings]] = {
    "fedavg": ("FedAvg", ()),
    "fedavgm": ("FedAvgM", (("server_learning_rate", 1.0), ("server_momentum", 0.3))),
    "fedprox": ("FedProx", (("proximal_mu", 0.01),)),
    "fedadagrad": ("FedAdagrad", (("eta", 0.03), ("eta_l", 0.0), ("tau", 0.01))),
    "fedadam": ("FedAdam", (("eta", 0.03), ("eta_l", 0.0), ("beta_1", 0.5), ("beta_2", 0.99), ("tau", 0.01))),
    "fedyogi": ("FedYogi", (("eta", 0.03), ("eta_l", 0.0), ("beta_1", 0.5), ("beta_2", 0.99), ("tau", 0.01))),
    "fedmedian": ("FedMedian", ()),
    "fedtrimmedavg": ("FedTrimmedAvg", (("beta", 0.34),)),
}
