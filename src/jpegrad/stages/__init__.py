"""The steps of the codec, one file each.

A stage is a pair of functions on float64 tensors: ``*_exact`` computes what libjpeg-turbo computes, in integers held by
float64 (every product and sum is exact), and ``*_real`` is the real-valued map whose adjoint is the gradient.
"""
