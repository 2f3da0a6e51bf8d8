"""Other people's and plain numpy versions of what the models compute, to compare with."""

import numpy as np
import paddle

PRESETS = {
    "T": ("STDC1", {"arm_out_chs": [32, 64, 128], "seg_head_inter_chs": [32, 64, 64]}),
    "B": ("STDC2", {"arm_out_chs": [64, 96, 128], "seg_head_inter_chs": [64, 64, 64]}),
}


def paddleseg_model(preset, num_classes=11, arm_type="UAFM_SpAtten"):
    """PaddleSeg's own PPLiteSeg with random weights and statistics."""
    from paddleseg import models

    backbone, options = PRESETS[preset]
    model = models.PPLiteSeg(num_classes, getattr(models, backbone)(), arm_type=arm_type, **options)
    randomise(model)
    return model


def randomise(model):
    """Weights of a size that keeps signals alive (PaddleSeg starts STDC at 0.001), and uneven statistics."""
    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.Conv2D):
            fan_in = int(np.prod(layer.weight.shape[1:]))
            layer.weight.set_value(paddle.randn(layer.weight.shape) * (2.0 / fan_in) ** 0.5)
            if layer.bias is not None:
                layer.bias.set_value(paddle.randn(layer.bias.shape) * 0.1)
        elif isinstance(layer, paddle.nn.BatchNorm2D):
            layer.weight.set_value(paddle.rand(layer.weight.shape) + 0.5)
            layer.bias.set_value(paddle.randn(layer.bias.shape) * 0.1)
            layer._mean.set_value(paddle.randn(layer._mean.shape) * 0.1)
            layer._variance.set_value(paddle.rand(layer._variance.shape) + 0.5)


def state_of(model):
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def adaptive_average(x, bins):
    """Adaptive average pooling of an (H, W) array as its definition says, window by window."""
    height, width = x.shape
    out = np.empty((bins, bins), np.float64)
    for i in range(bins):
        for j in range(bins):
            rows = slice(int(np.floor(i * height / bins)), int(np.ceil((i + 1) * height / bins)))
            columns = slice(int(np.floor(j * width / bins)), int(np.ceil((j + 1) * width / bins)))
            out[i, j] = x[rows, columns].astype(np.float64).mean()
    return out
