"""planner: upgrade planner and rollout orchestrator for fleets of NVIDIA GPU machines.

Stages, in the only direction data may flow:
facts -> model -> matrix -> check -> search -> schedule -> emit -> execute -> report.
Package maps hold no imports, so that importing one module never drags another in.
"""

__version__ = "0.1.0"
