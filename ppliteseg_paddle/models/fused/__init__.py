"""Convolution, batch norm and ReLU in one call of oneDNN, for training on the CPU."""
