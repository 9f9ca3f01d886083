"""Stand-in packages: test doubles of Jitsi's packages with a contract, for labs where the real ones cannot be fetched."""

from orchestrator.lab.standins.repository import StandinRepository, build_repository

__all__ = ["StandinRepository", "build_repository"]
