"""Integer matrix products and linear layers beside other libraries and the machine's peak."""
