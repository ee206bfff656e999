"""The bundle: plain Ansible, PLAN.md, plan.json, digests."""
