"""Live methods as genesis ships them: ordinary files whose functions are copied into slots of the image.

Each function stands alone there: it uses nothing of its file but itself. From the first awakening on, the copy in the
image is the one that runs. `HOST`, which goes with it, is the version of the host interface that it was written for:
always the newest one, so that an image which took a release's methods is ready for the next release's kernels.
"""
