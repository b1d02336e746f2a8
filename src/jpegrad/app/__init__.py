"""A local page to look with: what the form says (``settings``), pictures of it (``views``), the way out (``files``).

``server`` serves them to ``page.html``; it alone needs the extra ``app``.
"""
