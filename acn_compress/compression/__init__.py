"""Ways to make a network smaller: blocks, units, zeros, and what makes up for them."""
