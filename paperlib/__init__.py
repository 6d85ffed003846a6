"""The companion module of "Post-hoc Self-explanation of CNNs" (Boubekki and Clemmensen, arXiv 2603.28466).

One module for each part of the paper; letters are the paper's: n images, R rows (pixels of a feature map), D channels,
C classes, K prototypes, K/C of them a class.
"""
import os

__version__ = "0.1.0"

# Threads that wait for one another by spinning make torch many times slower where the cores are also wanted by somebody
# else (a second notebook, say). OpenMP reads this once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
