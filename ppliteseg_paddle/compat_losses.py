"""PaddleSeg's losses that fail with the installed Paddle, each with the part that fails replaced.

Reason: PaddleSeg 2.8.0 multiplies and adds tensors of integers or truth values and of floats, as Paddle 2 lets it;
Paddle 3 raises a TypeError. PaddleSeg 2.9.1 casts them. And `DiceLoss` of both versions writes into the labels, which
`MixedLoss` hands from one loss to the next.
Can go: with support for PaddleSeg 2.8, but for `DiceLoss` and `MixedLoss`, until PaddleSeg's `DiceLoss` copies.

`fixed` is called where a configuration's losses are built; the class that it returns has the name of PaddleSeg's, by
which PaddleSeg's loop tells losses apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ppliteseg_paddle.environment import paddle_version

if TYPE_CHECKING:
    import paddle

_built: dict[type, type] = {}


def fixed(loss: type) -> type:
    """The class to build in place of a loss of PaddleSeg; `loss` itself if it runs, or is another package's."""
    if loss not in _built:
        fix = _fix_of(loss)
        _built[loss] = loss if fix is None else type(loss.__name__, (fix, loss), {"__module__": __name__})
    return _built[loss]


def _fix_of(loss: type) -> type | None:
    import paddleseg

    if not loss.__module__.startswith("paddleseg.models.losses."):
        return None
    if loss.__name__ in FIXES_OF_ALL:
        return FIXES_OF_ALL[loss.__name__]
    casts_itself = not paddleseg.__version__.startswith("2.")  # 2.9.1 calls itself 0.0.0.dev0
    return None if casts_itself or (paddle_version() or (0,)) < (3,) else FIXES_OF_2_8.get(loss.__name__)


class _Fix:
    """Stands before a loss of PaddleSeg among the bases of the class that `fixed` makes."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class _CrossEntropy(_Fix):
    """Of `CrossEntropyLoss` and `DistillCrossEntropyLoss`: the mean over pixels, weighted by class."""

    def _post_process_loss(
        self, logit: paddle.Tensor, label: paddle.Tensor, semantic_weights: paddle.Tensor | None, loss: paddle.Tensor
    ) -> paddle.Tensor:
        import paddle

        known = (label != self.ignore_index).astype("float32")
        mask = known if self.avg_non_ignore else paddle.ones_like(known)
        loss = (loss.squeeze(-1) if loss.ndim > mask.ndim else loss) * mask
        if semantic_weights is not None:
            loss = loss * semantic_weights
        coef = paddle.ones_like(mask)
        if self.weight is not None:
            classes = (label * known.astype(label.dtype)).flatten()
            coef = paddle.gather(self.weight, classes).reshape(label.shape)
        if self.top_k_percent_pixels == 1.0:
            return loss.mean() / ((mask * coef).mean() + self.EPS)
        loss, indices = paddle.topk(loss.flatten(), int(self.top_k_percent_pixels * loss.numel()))
        return loss.mean() / (paddle.gather(coef.flatten(), indices).mean() + self.EPS)


class _PointCrossEntropy(_Fix):
    def forward(
        self,
        logits: tuple[paddle.Tensor, paddle.Tensor],
        label: paddle.Tensor,
        semantic_weights: paddle.Tensor | None = None,
    ) -> paddle.Tensor:
        """Shape: logits (N, C, P) and points (N, P, 2) in 0 to 1; label (N, H, W)."""
        import paddle
        import paddle.nn.functional as F
        from paddleseg.models.losses.point_cross_entropy_loss import point_sample

        logit, points = logits
        label = point_sample(
            label.unsqueeze(1).astype("float32"), points, mode="nearest", align_corners=self.align_corners
        )
        label, logit = label.squeeze(1).astype("int64"), logit.transpose([0, 2, 1])
        mask = (label != self.ignore_index).astype("float32")
        loss = F.cross_entropy(logit, label, ignore_index=self.ignore_index, reduction="none") * mask
        if semantic_weights is not None:
            loss = loss * semantic_weights
        coef = paddle.ones_like(mask)
        if self.weight is not None:
            weighted = F.one_hot(label, logit.shape[-1]) * self.weight
            loss, coef = loss * weighted.argmax(-1).astype(loss.dtype), weighted.sum(-1)
        if self.top_k_percent_pixels == 1.0:
            return loss.mean() / ((mask * coef).mean() + self.EPS)
        loss, indices = paddle.topk(loss.flatten(), int(self.top_k_percent_pixels * loss.numel()))
        return loss.mean() / (paddle.gather(coef.flatten(), indices).mean() + self.EPS)


def _hard_pixels(loss: Any, logit: paddle.Tensor, label: paddle.Tensor) -> paddle.Tensor:
    """The mean cross entropy over pixels whose probability is below the threshold, or the `min_kept` least probable.

    Shape: logit (N, C, H, W); label (N, 1, H, W), int64.
    """
    import paddle
    import paddle.nn.functional as F

    known = label != loss.ignore_index
    hard = known
    if 0 < loss.min_kept < int(known.sum()):
        own = paddle.take_along_axis(F.softmax(logit, axis=1), label * known.astype("int64"), axis=1)
        own = own + (~known).astype(own.dtype)  # pixels without a label come last
        threshold = paddle.sort(own.flatten())[loss.min_kept - 1].clip(min=loss.thresh)
        hard = known & (own < threshold)
    label = paddle.where(hard, label, paddle.full_like(label, loss.ignore_index))
    each = F.cross_entropy(logit, label, ignore_index=loss.ignore_index, reduction="none", axis=1)
    kept = hard.astype("float32")
    return (each.reshape(kept.shape) * kept).mean() / (kept.mean() + loss.EPS)


class _Ohem(_Fix):
    def forward(self, logit: paddle.Tensor, label: paddle.Tensor) -> paddle.Tensor:
        """Shape: logit (N, C, H, W); label (N, H, W) or (N, 1, H, W)."""
        label = label.unsqueeze(1) if label.ndim != logit.ndim else label
        return _hard_pixels(self, logit, label.astype("int64"))


class _OhemEdgeAttention(_Fix):
    def forward(self, logits: tuple[paddle.Tensor, paddle.Tensor], label: paddle.Tensor) -> paddle.Tensor:
        """Shape: logits of the classes (N, C, H, W) and of edges (N, 1, H, W); label (N, H, W) or (N, 1, H, W)."""
        import paddle

        logit, edge = logits[0], logits[1]
        label = (label.unsqueeze(1) if label.ndim != logit.ndim else label).astype("int64")
        if list(edge.shape) != list(label.shape):
            raise ValueError(f"the edges' logits and the label differ in shape: {edge.shape} and {label.shape}")
        elsewhere = paddle.full_like(label, self.ignore_index)
        return _hard_pixels(self, logit, paddle.where(edge > self.edge_threshold, label, elsewhere))


class _RelaxBoundary(_Fix):
    def custom_nll(
        self,
        logit: paddle.Tensor,
        label: paddle.Tensor,
        class_weights: paddle.Tensor | None = None,
        border_weights: Any = None,
        ignore_mask: Any = None,
    ) -> paddle.Tensor:
        """On Paddle 2 PaddleSeg 2.8.0 rounds each logarithm to an integer here; this is 2.9.1's value.

        Shape: logit (1, C, H, W); label (1, C + 1, H, W), 1 for each class near a pixel.
        """
        import paddle
        import paddle.nn.functional as F

        near, soft = label[:, :-1].astype(logit.dtype), F.softmax(logit, axis=1)
        together = (soft * near).sum(1, keepdim=True)
        likelihood = (near * paddle.log(soft * (1 - near) + together * near)).sum(1)
        likelihood = likelihood / border_weights * (1 - ignore_mask)
        pixels = label.shape[0] * label.shape[2] * label.shape[3]
        return -likelihood.sum() / (pixels - ignore_mask.sum() + 1)


class _RMI(_Fix):
    def forward_sigmoid(
        self, logits_4D: paddle.Tensor, labels_4D: paddle.Tensor, do_rmi: bool = False
    ) -> paddle.Tensor:
        """Shape: logits (N, C, H, W); labels (N, H, W)."""
        import paddle.nn.functional as F
        from paddleseg.models.losses.rmi_loss import _CLIP_MIN

        known = (labels_4D != self.ignore_index).astype("float32")
        labels = F.one_hot((labels_4D * known).astype("int64"), self.num_classes) * known.unsqueeze(3)
        labels = labels.transpose([0, 3, 1, 2])
        labels.stop_gradient = True
        return self.rmi_lower_bound(labels, F.sigmoid(logits_4D) * known.unsqueeze(1) + _CLIP_MIN)


class _DualTask(_Fix):
    def forward(self, logit: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        """Shape: logit (N, C, H, W); labels (N, H, W) or (N, 1, H, W)."""
        import paddle.nn.functional as F

        labels = labels.unsqueeze(1) if labels.ndim == 3 else labels
        known = labels != self.ignore_index
        mask = known.astype(logit.dtype)
        labels = F.one_hot((labels * known.astype(labels.dtype)).squeeze(1), logit.shape[1]).transpose([0, 3, 1, 2])
        found = self.compute_grad_mag(self._gumbel_softmax_sample(logit * mask, tau=self.tau))
        expected = self.compute_grad_mag(labels)
        expected.stop_gradient = True
        loss = F.l1_loss(found, expected, reduction="none") * mask
        total = 0.0
        for edges in (found, expected):
            there = (edges > 1e-8).astype("float32")
            count = float(there.sum())
            total = total + 0.5 * (loss * there).sum() / (count if count > 1e-10 else 1.0)
        return total


class _BinaryCrossEntropy(_Fix):
    def forward(self, logit: paddle.Tensor, label: paddle.Tensor) -> paddle.Tensor:
        """`weight: dynamic` gives both sides of all classes the same sum of weights.

        Shape: logit (N, C, H, W); label (N, H, W) of class ids, or planes (N, C, H, W).
        """
        import paddle
        import paddle.nn.functional as F

        label = label.unsqueeze(1) if label.ndim < logit.ndim else label
        known = label != self.ignore_index
        label = paddle.where(known, label, paddle.zeros_like(label))
        if label.shape[1] != logit.shape[1]:
            label = F.one_hot(label.squeeze(1), logit.shape[1]).transpose((0, 3, 1, 2))
        label, mask = label.astype(logit.dtype), known.astype(logit.dtype)
        positive = label.mean()
        weight, pos_weight = self.weight, self.pos_weight
        if isinstance(weight, str):
            weight = 2 * (1 - positive) * label + 2 * positive * (1 - label)
        if isinstance(pos_weight, str):
            pos_weight = 2 * (1 - positive)
        loss = F.binary_cross_entropy_with_logits(logit, label, weight, reduction="none", pos_weight=pos_weight)
        return (loss * mask).mean() / (mask.mean() + self.EPS)


class _Dice(_Fix):
    def forward(self, logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        """PaddleSeg sets ignored pixels to class 0 in the labels themselves: the losses after it train on them, and a
        loss before it cannot compute its gradient."""
        return super().forward(logits, labels.clone())  # type: ignore[misc]


class _LovaszHinge(_Fix):
    def forward(self, logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        """PaddleSeg takes any two channels of logits for the two sides of one class, those of two planes, too.

        Shape: logits (N, C, H, W); labels (N, H, W), or planes (N, C, H, W).
        """
        from paddleseg.models.losses.lovasz_loss import flatten_binary_scores, lovasz_hinge_flat

        if labels.shape == logits.shape:
            return lovasz_hinge_flat(*flatten_binary_scores(logits, labels, self.ignore_index))
        return super().forward(logits, labels)  # type: ignore[misc]


class _Mixed(_Fix):
    def forward(self, logits: paddle.Tensor, labels: paddle.Tensor) -> list[paddle.Tensor]:
        """Each loss gets labels of its own, so that none sees what another one, of whatever package, wrote into them.

        Shape: as the losses take them. Returns: one weighted loss each, as PaddleSeg's.
        """
        return [loss(logits, labels.clone()) * factor for loss, factor in zip(self.losses, self.coef)]


FIXES_OF_ALL: dict[str, type] = {"DiceLoss": _Dice, "LovaszHingeLoss": _LovaszHinge, "MixedLoss": _Mixed}
FIXES_OF_2_8: dict[str, type] = {
    "BCELoss": _BinaryCrossEntropy,
    "CrossEntropyLoss": _CrossEntropy,
    "DistillCrossEntropyLoss": _CrossEntropy,
    "DualTaskLoss": _DualTask,
    "OhemCrossEntropyLoss": _Ohem,
    "OhemEdgeAttentionLoss": _OhemEdgeAttention,
    "PointCrossEntropyLoss": _PointCrossEntropy,
    "RMILoss": _RMI,
    "RelaxBoundaryLoss": _RelaxBoundary,
}
