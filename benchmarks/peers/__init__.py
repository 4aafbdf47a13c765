"""What other people would use to remove heads and MLP features, on the same rows and at the same
size: Torch-Pruning itself, and two methods of papers, reimplemented here. Each prunes a network in
place; the cut is the package's own, checked."""
