"""Pictures of masks: files, overlays, grids. Images are (H, W, 3) uint8 in BGR order, as OpenCV reads them."""
