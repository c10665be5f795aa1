"""Live methods as genesis ships them: ordinary files whose functions are copied into slots of the image.

Each function stands alone there: it uses nothing of its file but itself. From the first awakening on, the copy in the
image is the one that runs.
"""
