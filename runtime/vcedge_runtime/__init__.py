"""What runs at the edge: numpy, OpenCV and one inference backend; it knows no PyTorch."""
