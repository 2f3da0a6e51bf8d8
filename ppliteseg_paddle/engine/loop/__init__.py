"""What surrounds PaddleSeg's training loop, which itself runs unmodified."""
