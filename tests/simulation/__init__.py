"""Two whole nodes in one process on a simulated clock, network and disk. ``python -m tests.simulation --seed N`` replays one run."""
