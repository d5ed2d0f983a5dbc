"""Folders of your own as data sets: ``Source("folder:PATH", "train")``, in the layouts that people have.

Every layout has a reader in a file of its own beside this one, with ``recognises(root)`` and ``read(root, options)``;
all of them yield what :mod:`jaxseg.data.folders.item` describes.
"""
