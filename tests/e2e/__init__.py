"""Whole rollouts on lab nodes: the command line, SSH, systemd, apt, dnf and Slurm are real; GPUs are stand-ins."""
