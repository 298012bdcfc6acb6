"""Checkpoints on disk: read and written one tensor at a time.

============================  =======================================================
``tensors``                   what a stored tensor is: name, type, shape, bytes
``record``                    how a quantized tensor is stored, and the check of it
``safetensors_format``        reading and writing ``.safetensors``
``npz``, ``npy``              reading and writing ``.npz`` and ``.npy``
``source``                    a file or a folder of shards, opened for reading
``rewrite``                   a new checkpoint made from an old one, all or nothing
``resumable``                 a folder of shards made in parallel, over several runs
``replacing``                 the temporary name that makes it all or nothing
============================  =======================================================
"""
