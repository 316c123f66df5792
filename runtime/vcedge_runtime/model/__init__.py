"""What a model is, as data: its bundle, its graphs' tensors, its run-time part."""
