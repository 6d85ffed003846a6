"""Imports what stages and notebooks import, in the process that they are forked from (see `kernels`)."""
# ruff: noqa: E402, F401
import atexit
import gc
import sys

sys.modules.setdefault("rfc3987_syntax", None)  # a grammar of IRIs, which nothing asks for here, takes two seconds

import distributed.nanny
import ipykernel.kernelapp
import jupytext
import nbconvert
import papermill

import paperlib.comparison.contest
import paperlib.comparison.saliency
import paperlib.figures
import paperlib.runs.report
import paperlib.runs.study
from paperlib.runs.kernels import hold

hold()
gc.freeze()  # what is shared stays shared: no fork looks through it for garbage
atexit.register(gc.unfreeze)  # or triton, which torch imports, says at the end that all of it has leaked
