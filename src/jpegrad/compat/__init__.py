"""Other projects' calls over jpegrad: a module for each project, imported by its name.

``import jpegrad`` imports none of them, and each says which package it needs beside jpegrad.
"""
