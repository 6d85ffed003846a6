"""What notebooks without a study and the jobs that run them import, in the process that both are forked from."""
# ruff: noqa: F401
import distributed.nanny
import ipykernel.kernelapp
import jupytext
import nbconvert
import papermill

import paperlib.datasets.files
