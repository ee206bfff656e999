"""Real hosts in namespaces of this machine, with stand-in GPUs (Linux, root)."""
