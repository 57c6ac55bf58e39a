"""Flower, imported in one place: importing it changes the process's warning filters, which are put back here.

Not covered: anything of our own.
"""

import warnings

with warnings.catch_warnings(record=True):  # and nothing is printed
    import flwr.serverapp.strategy as flower_strategies
    import flwr.supercore.telemetry as telemetry
    from flwr import __version__ as FLOWER_VERSION
    from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid
    from flwr.supercore.task_identity import TaskIdentity

__all__ = [
    "FLOWER_VERSION",
    "Array",
    "ArrayRecord",
    "ClientApp",
    "ConfigRecord",
    "Context",
    "Grid",
    "Message",
    "MetricRecord",
    "RecordDict",
    "TaskIdentity",
    "flower_strategies",
    "telemetry",
]
