"""What backends made of kernels share: all but the kernels themselves.

``settings`` a call as numbers, ``reasons`` why kernels cannot run it, ``operators`` the six operators and what a kernel
fills, ``autograd`` their derivatives, ``adjoints`` what lies between two kernels, ``frame`` the backend of all these.
"""
