"""The seam to Ansible: a protocol, the real runner, and a scripted stand-in."""
