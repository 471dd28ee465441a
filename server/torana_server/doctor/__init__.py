"""Finds and explains what keeps a server from starting or from being safe. It changes nothing and shows no secrets."""

from torana_server.doctor.examination import Surroundings, examine
from torana_server.doctor.findings import Finding, Grade

__all__ = ["Finding", "Grade", "Surroundings", "examine"]
