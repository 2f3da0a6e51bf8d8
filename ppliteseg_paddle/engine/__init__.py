"""From a configuration to a trained and evaluated model, through PaddleSeg's builder and loop."""
