"""One loop and the four collaborative regimes."""
