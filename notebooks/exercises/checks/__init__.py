"""Checks of the exercises: each takes a student's functions, tries them, and says in words what is wrong.

A check prints one sentence and returns whether the answer passed. Notebooks import it from this folder, which the
first cell of each puts on the path, so that it works from whatever folder a kernel starts in.
"""
from __future__ import annotations

from checks.attribution import attribution, factor, grad_cam, lead, readings, refine
from checks.concepts import assign_one_hot, block_shares, composite, decide, vote
from checks.kmex import class_means, confused, cosines, hard_for_one, nearness, predict, similarities
from checks.looking import changes, choose_k, must, share_beside, shortcut, two_networks
from checks.theorem1 import evidence, fails, fold, heads, size_of_gap, turn_blue

__all__ = [
    "evidence", "size_of_gap", "heads", "fails", "fold", "turn_blue",
    "cosines", "predict", "similarities", "confused", "class_means", "hard_for_one", "nearness",
    "composite", "block_shares", "assign_one_hot", "vote", "decide",
    "attribution", "grad_cam", "factor", "refine", "lead", "readings",
    "choose_k", "changes", "two_networks", "shortcut", "must", "share_beside",
]
