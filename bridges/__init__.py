"""The border between PyTorch's stateful world and lla_func: modules, optimizers, data loaders and the `lla` command.

Nothing is imported here, so that ``lla --help`` answers at once; import what you need: ``from bridges import metrics``.
"""
