"""Peak memory of fitting and explaining, for 10 and for 30 species: `python tests/benchmark_memory.py`.

Each count runs in a process of its own, on drawn birds and a ResNet18 with random weights (memory does not depend on
what the network has learnt). The growth of the peak over what was there before is what the fit itself needs.
"""
from __future__ import annotations

import resource
import subprocess
import sys

import torch

PER_CLASS, SIZE = 60, 96


def peak_mib() -> float:
    """The largest resident memory of this process so far (Linux counts in KiB, macOS in bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def measure(species: int) -> None:
    from paperlib.concepts import ConceptExplainer
    from paperlib.datasets import birds
    from paperlib.datasets.load import Pictures
    from paperlib.networks.architectures import build

    images, _, labels, _ = birds.draw_set(PER_CLASS, size=SIZE, species=species)
    pictures = Pictures(torch.as_tensor(images).permute(0, 3, 1, 2), labels)
    net = build("resnet18", species)
    # What stays whatever the number of classes: the network, its work space, the libraries of one small fit.
    few = torch.arange(species).repeat_interleave(2)
    ConceptExplainer((2, 3, 4), 1, 1).fit(net, pictures.batch(few * PER_CLASS), few)
    before = peak_mib()
    explainer = ConceptExplainer((2, 3, 4), 5, 1).fit(net, pictures, labels)
    fitted = peak_mib()
    explainer.explanation_map(net, pictures)
    H, W = explainer.resolution_
    one = PER_CLASS * H * W * explainer.prototypes_.shape[1] * 4 / 2**20
    print(f"{species:>7} {one:>14.0f} {species * one:>14.0f} {fitted - before:>12.0f} {peak_mib() - fitted:>12.0f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(int(sys.argv[1]))
    else:
        print(f"MiB: {PER_CLASS} pictures a species, {SIZE} px, B234 of a ResNet18, K/C = 5\n"
              f"{'species':>7} {'rows, 1 class':>14} {'rows, all':>14} {'fit adds':>12} {'maps add':>12}", flush=True)
        for species in (10, 30):
            subprocess.run([sys.executable, __file__, str(species)], check=True)
