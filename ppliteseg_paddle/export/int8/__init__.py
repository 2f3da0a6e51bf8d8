"""INT8: post-training quantisation of a converted network from a list of images."""
