"""Loaders of the pages, one file a stage: they ask the services and answer plain JSON, nothing else."""
