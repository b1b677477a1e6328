"""Few values for many weights: clusters on a line, and mixtures of Gaussians."""
