"""The companion module of "Post-hoc Self-explanation of CNNs" (Boubekki and Clemmensen, arXiv 2603.28466).

One module for each part of the paper; letters are the paper's: n images, R rows (pixels of a feature map), D channels,
C classes, K prototypes, K/C of them a class.
"""

__version__ = "0.1.0"
