"""Finding clones: lines normalized and fingerprinted, indexes in memory and on disk, runs verified on text."""
