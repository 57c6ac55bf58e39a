"""What found clones mean: whose code comes back, against which controls, and more than verbatim."""
